//! What a rule's document says to people; filled by whoever knows the rules, shown by reports and pages.

/// The texts of one rule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuleText {
    pub title: String,
    /// Each citation as people write it, and whether it was checked against its source.
    pub cites: Vec<(String, bool)>,
    /// Framework controls, each as shown: `CSF PR.AA-04`.
    pub controls: Vec<String>,
    /// Light Markdown: paragraphs, lists, `code` and **strong**.
    pub remediation: String,
}
