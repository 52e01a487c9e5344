//! The JSON Schema of the configuration file, for editors; made from the shapes that the reader reads by.

use serde_json::{Map, Value, json};

use super::raw::{self, Field, Kind, Shape};

/// The schema (JSON Schema 2020-12) of a configuration file.
#[must_use]
pub fn schema() -> Value {
    let mut schema = table(&raw::ROOT);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("issuerwatch configuration");
    schema
}

fn table(shape: &Shape) -> Value {
    let fields = || shape.fields.iter().filter(|field| !matches!(field.kind, Kind::NotYet { .. }));
    let properties: Map<String, Value> = fields().map(|field| (field.name.to_owned(), property(field))).collect();
    let required: Vec<&str> = fields().filter(|field| field.required).map(|field| field.name).collect();
    let mut schema = json!({"type": "object", "additionalProperties": false, "properties": properties});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn property(field: &Field) -> Value {
    let mut schema = value(field.kind);
    schema["description"] = json!(field.about);
    schema
}

fn value(kind: Kind) -> Value {
    let texts = || json!({"type": "array", "items": text()});
    match kind {
        Kind::Text => text(),
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Whole(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
        Kind::Duration => json!({"type": "string", "pattern": "^[0-9]+[smhdw]$"}),
        Kind::Size => json!({"anyOf": [{"type": "string", "pattern": "^[0-9]+ ?(B|KiB|MiB|GiB)?$"}, {"type": "integer", "minimum": 1}]}),
        Kind::Percent => {
            json!({"anyOf": [{"type": "string", "pattern": "^[0-9.]+ ?%$"}, {"type": "number", "minimum": 0, "maximum": 100}]})
        }
        Kind::Date => json!({"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}"}),
        Kind::Choice(names) => json!({"enum": names}),
        Kind::Texts => texts(),
        Kind::TextOrTexts => json!({"anyOf": [text(), texts()]}),
        Kind::Secret => secret(),
        Kind::Secrets => json!({"type": "array", "minItems": 1, "items": secret()}),
        Kind::TextOrSecret => json!({"anyOf": [text(), secret()]}),
        Kind::Labels => json!({"type": "object", "additionalProperties": {"type": "string"}}),
        Kind::Severities => {
            let names = [raw::SEVERITIES, &["off"]].concat();
            json!({"type": "object", "additionalProperties": {"enum": names}})
        }
        Kind::RevokedKeys => json!({"type": "array", "items": {"anyOf": [text(), table(&raw::REVOKED_KEY)]}}),
        Kind::Table(shape) => table(shape),
        Kind::Tables(shape) => json!({"type": "array", "items": table(shape)}),
        Kind::Channels => json!({"type": "array", "items": {"oneOf": [channel(&raw::WEBHOOK, "webhook"), channel(&raw::EMAIL, "email")]}}),
        Kind::NotYet { .. } => json!({"not": {}}),
    }
}

fn text() -> Value {
    json!({"type": "string", "minLength": 1})
}

fn secret() -> Value {
    let mut schema = table(&raw::SECRET);
    schema["minProperties"] = json!(1);
    schema["maxProperties"] = json!(1);
    schema
}

fn channel(shape: &Shape, kind: &str) -> Value {
    let mut schema = table(shape);
    schema["properties"]["kind"] = json!({"const": kind});
    schema
}
