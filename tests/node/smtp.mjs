// A real mail server for tests: node smtp.mjs --out FILE [--port N] --cert FILE --key FILE [--implicit] [--user U --password P]
//
// Prints {"up": true, "port": …} when it is up. Ends with its standard input. Every mail taken is appended to FILE as a
// JSON line {"from", "to", "secure", "user", "raw"}, every refused attempt as {"refused": …, "to"}.
// Without --user anybody may send; with it AUTH is demanded, and AUTH is offered under TLS only.
// A recipient's local part decides: "greylist…" is told 451 the first time, "full…" 452 always, "nobody…" 550,
// "spam…" 554 after DATA. Everybody else gets the mail.
import fs from 'node:fs';
import { parseArgs } from 'node:util';
import { SMTPServer } from 'smtp-server';

const { values: options } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    out: { type: 'string' },
    cert: { type: 'string' },
    key: { type: 'string' },
    implicit: { type: 'boolean', default: false },
    user: { type: 'string' },
    password: { type: 'string' },
  },
});

const note = (line) => fs.appendFileSync(options.out, `${JSON.stringify(line)}\n`);
const refuse = (code, text) => Object.assign(new Error(text), { responseCode: code });
const seen = new Set();

function verdict(address) {
  const local = address.split('@')[0];
  if (local.startsWith('greylist') && !seen.has(address)) {
    seen.add(address);
    return refuse(451, '4.7.1 Greylisted, come back later');
  }
  if (local.startsWith('full')) return refuse(452, '4.2.2 Mailbox full');
  if (local.startsWith('nobody')) return refuse(550, '5.1.1 No such user here');
  return undefined;
}

const server = new SMTPServer({
  secure: options.implicit,
  cert: fs.readFileSync(options.cert),
  key: fs.readFileSync(options.key),
  authMethods: ['PLAIN', 'LOGIN'],
  authOptional: options.user === undefined,
  disabledCommands: options.user === undefined ? ['AUTH'] : [],
  size: 8 << 20,
  onAuth({ username, password }, _session, done) {
    if (username === options.user && password === options.password) return done(null, { user: username });
    note({ refused: 'auth' });
    return done(refuse(535, '5.7.8 Wrong user or password'));
  },
  onRcptTo({ address }, _session, done) {
    const refusal = verdict(address);
    if (refusal) note({ refused: refusal.responseCode, to: address });
    done(refusal);
  },
  onData(stream, session, done) {
    const chunks = [];
    stream.on('data', (chunk) => chunks.push(chunk));
    stream.on('end', () => {
      const to = session.envelope.rcptTo.map(({ address }) => address);
      if (to.some((address) => address.startsWith('spam'))) return done(refuse(554, '5.7.1 Looks like spam'));
      const { secure, user } = session;
      note({ from: session.envelope.mailFrom.address, to, secure, user: user ?? null, raw: Buffer.concat(chunks).toString('latin1') });
      return done();
    });
  },
});
// A client that walks away in the middle of a handshake is a test's business, not a reason to end.
server.on('error', (error) => console.error(error.message));
server.listen(Number(options.port), '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify({ up: true, port: server.server.address().port })}\n`);
});
process.stdin.on('end', () => process.exit(0)).resume();
