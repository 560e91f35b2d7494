// node provider.mjs CERTIFICATE_AND_KEY.pem READY_FILE
//
// Three issuers at https://localhost:PORT, each with a port of its own, in one process since Node starts slowly:
//   open     people log in by the device flow; whoever types any name and any password is that person
//   hurried  the same, with codes that run out within a moment
//   closed   has no device flow
// READY_FILE gets their addresses when all of them listen.
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import { Provider } from 'oidc-provider';

const [, , pem, ready] = process.argv;
const DEVICE_CODE = 'urn:ietf:params:oauth:grant-type:device_code';
const LIFE_S = 600;
const KINDS = { open: { codeLifeS: LIFE_S }, hurried: { codeLifeS: 2 }, closed: { codeLifeS: 0 } };

const key = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' });

function provider(url, { codeLifeS }) {
  const hasDeviceFlow = codeLifeS > 0;
  const made = new Provider(url, {
    clients: hasDeviceFlow ? [{
      client_id: 'vmbroker',
      token_endpoint_auth_method: 'none',
      response_types: [],
      redirect_uris: [],
      grant_types: [DEVICE_CODE],
    }] : [],
    jwks: { keys: [{ ...key, kid: 'first', use: 'sig', alg: 'RS256' }] },
    cookies: { keys: ['signs nothing that is worth anything'] },
    scopes: ['openid', 'profile', 'email'],
    claims: { openid: ['sub'], profile: ['preferred_username'] },
    conformIdTokenClaims: false, // as most providers do: the name is in the ID token, and not in userinfo alone
    features: { deviceFlow: { enabled: hasDeviceFlow }, devInteractions: { enabled: true } },
    ttl: {
      AccessToken: LIFE_S, DeviceCode: codeLifeS || 1, Grant: LIFE_S, IdToken: LIFE_S, Interaction: LIFE_S, Session: LIFE_S,
    },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: `number-of-${id}`, preferred_username: id }) }),
  });
  // The package names no interval, for which RFC 8628 has 5 s: so long no test is to wait.
  made.use(async (ctx, next) => {
    await next();
    if (ctx.body?.device_code) ctx.body.interval = 1;
  });
  return made.callback();
}

function listen(kind) {
  return new Promise((resolve, reject) => {
    let answer; // made when the port is known, since an issuer knows its own address
    const credential = readFileSync(pem);
    const server = https.createServer({ key: credential, cert: credential }, (request, response) => answer(request, response));
    server.on('error', reject);
    server.listen(0, 'localhost', () => {
      const url = `https://localhost:${server.address().port}`;
      answer = provider(url, kind);
      resolve(url);
    });
  });
}

process.on('SIGTERM', () => process.exit(0));

const urls = {};
for (const [name, kind] of Object.entries(KINDS)) urls[name] = await listen(kind);
writeFileSync(`${ready}.part`, JSON.stringify(urls));
renameSync(`${ready}.part`, ready);
