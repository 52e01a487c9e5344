// A real OpenID provider for tests: node op.mjs [--port N] [--issuer URL] [--cert FILE --key FILE]
//
// Prints one JSON line when it is up: {"up": true, "issuer": …, "port": …, "keys": […]}. Ends with its standard input.
// POST /control/prepare   makes the key that joins next, and tells its kid (its thumbprint) before anybody sees it
// POST /control/publish   a new RSA key joins the set; the old one goes on signing
// POST /control/promote   the newest RSA key signs from now on
// POST /control/retire    every RSA key but the signing one leaves the set
// POST /control/swap      the bad rotation: all RSA keys are replaced by a new one at once
// POST /control/fail      every request is answered with 503 until …
// POST /control/recover   … this
// GET  /control/token     an access token (JWT) signed by the signing key
// Each answers with {"signing": kid, "next": kid, "keys": [{"kid", "kty"}]}.
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { parseArgs } from 'node:util';
import { calculateJwkThumbprint, exportJWK, generateKeyPair } from 'jose';

// The provider warns about the runtime's version on standard output; that is for the JSON lines only.
console.info = console.warn = console.log = console.error;
const { Provider } = await import('oidc-provider');

const { values: options } = parseArgs({
  options: { port: { type: 'string', default: '0' }, issuer: { type: 'string' }, cert: { type: 'string' }, key: { type: 'string' } },
});
const secure = options.cert !== undefined;
let failing = false;
let issuer;
let handler;

async function newKey(alg) {
  const { privateKey } = await generateKeyPair(alg, { extractable: true, modulusLength: 2048 });
  const jwk = { ...(await exportJWK(privateKey)), alg, use: 'sig' };
  return { ...jwk, kid: await calculateJwkThumbprint(jwk) };
}

// Of several keys that fit, the provider signs with the first.
let keys = [await newKey('RS256'), await newKey('ES256')];
const isRsa = (key) => key.kty === 'RSA';
let next;

const moves = {
  async prepare() {
    next = await newKey('RS256');
  },
  async publish() {
    keys.push(next ?? (await newKey('RS256')));
    next = undefined;
  },
  promote() {
    const newest = keys.findLast(isRsa);
    keys = [newest, ...keys.filter((key) => key !== newest)];
  },
  retire() {
    const signing = keys.find(isRsa);
    keys = keys.filter((key) => key === signing || !isRsa(key));
  },
  async swap() {
    keys = [await newKey('RS256'), ...keys.filter((key) => !isRsa(key))];
  },
  fail() {
    failing = true;
  },
  recover() {
    failing = false;
  },
};

function state() {
  return { signing: keys.find(isRsa).kid, next: next?.kid, keys: keys.map(({ kid, kty }) => ({ kid, kty })) };
}

// The provider takes its keys once: each change makes a new one behind the same server.
function serveKeys() {
  const resource = { scope: 'api', audience: 'urn:test:api', accessTokenFormat: 'jwt', accessTokenTTL: 600 };
  const provider = new Provider(issuer, {
    jwks: { keys },
    scopes: ['openid', 'api'],
    clients: [
      {
        client_id: 'watch',
        client_secret: 'a-secret-that-is-only-good-for-this-test',
        grant_types: ['client_credentials'],
        response_types: [],
        redirect_uris: [],
      },
    ],
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => resource.audience,
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({ ...resource, jwt: { sign: { alg: 'RS256' } } }),
      },
    },
  });
  handler = provider.callback();
}

async function token() {
  const response = await fetch(`${issuer}/token`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: new URLSearchParams({
      grant_type: 'client_credentials',
      scope: 'api',
      client_id: 'watch',
      client_secret: 'a-secret-that-is-only-good-for-this-test',
    }),
  });
  return response.json();
}

function answer(response, status, body) {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

async function serve(request, response) {
  const name = /^\/control\/(\w+)$/.exec(request.url)?.[1];
  if (name === 'token') return answer(response, 200, await token());
  if (name !== undefined) {
    if (request.method !== 'POST' || !Object.hasOwn(moves, name)) return answer(response, 404, { error: 'no such control' });
    await moves[name]();
    serveKeys();
    return answer(response, 200, state());
  }
  if (failing) return answer(response, 503, { error: 'told to fail' });
  return handler(request, response);
}

const tls = secure ? { cert: fs.readFileSync(options.cert), key: fs.readFileSync(options.key) } : undefined;
const server = secure ? https.createServer(tls, serve) : http.createServer(serve);
server.listen(Number(options.port), '127.0.0.1', () => {
  const { port } = server.address();
  issuer = options.issuer ?? `${secure ? 'https' : 'http'}://${secure ? 'localhost' : '127.0.0.1'}:${port}`;
  serveKeys();
  process.stdout.write(`${JSON.stringify({ up: true, issuer, port, ...state() })}\n`);
});
// The test that started us is gone when our input ends.
process.stdin.on('end', () => process.exit(0)).resume();
