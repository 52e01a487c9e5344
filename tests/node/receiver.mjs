// A webhook receiver that verifies with an independent Standard Webhooks library:
// node receiver.mjs --out FILE --secret whsec_… [--secret whsec_…] [--port N] [--cert FILE --key FILE]
//
// Prints {"up": true, "url": …, "port": …} when it is up. Ends with its standard input. Every delivery is appended to
// FILE as a JSON line {"id", "timestamp", "verified": [per secret], "body", "error"} and answered 204, or 401 where no
// secret verifies it. POST /control/answer?status=N&retry_after=S&times=K answers the next K deliveries like that.
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { parseArgs } from 'node:util';
import { Webhook } from 'standardwebhooks';

const { values: options } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    out: { type: 'string' },
    secret: { type: 'string', multiple: true },
    cert: { type: 'string' },
    key: { type: 'string' },
  },
});
const verifiers = options.secret.map((secret) => new Webhook(secret));
let planned = { times: 0 };

async function text(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString('utf8');
}

function check(verifier, body, headers) {
  try {
    verifier.verify(body, headers);
    return null;
  } catch (error) {
    return error.message;
  }
}

async function serve(request, response) {
  const url = new URL(request.url, 'http://receiver');
  if (url.pathname === '/control/answer') {
    const { status, retry_after: retryAfter, times } = Object.fromEntries(url.searchParams);
    planned = { status: Number(status), retryAfter, times: Number(times ?? 1) };
    return response.writeHead(204).end();
  }
  const body = await text(request);
  const errors = verifiers.map((verifier) => check(verifier, body, request.headers));
  const verified = errors.map((error) => error === null);
  const { 'webhook-id': id, 'webhook-timestamp': timestamp } = request.headers;
  const status = planned.times > 0 ? planned.status : verified.includes(true) ? 204 : 401;
  fs.appendFileSync(options.out, `${JSON.stringify({ id, timestamp, verified, status, body, error: errors[0] })}\n`);
  if (planned.times > 0) {
    planned.times -= 1;
    if (planned.retryAfter !== undefined) response.setHeader('retry-after', planned.retryAfter);
  }
  return response.writeHead(status).end();
}

const secure = options.cert !== undefined;
const tls = secure ? { cert: fs.readFileSync(options.cert), key: fs.readFileSync(options.key) } : undefined;
const server = secure ? https.createServer(tls, serve) : http.createServer(serve);
server.listen(Number(options.port), '127.0.0.1', () => {
  const { port } = server.address();
  const url = secure ? `https://localhost:${port}/hook` : `http://127.0.0.1:${port}/hook`;
  process.stdout.write(`${JSON.stringify({ up: true, url, port })}\n`);
});
process.stdin.on('end', () => process.exit(0)).resume();
