// A key of a user, made in this browser, and what the authority signs (PKCS #10, RFC 2986). The key is sent nowhere.

export interface UserKey {
  /** PKCS #8, PEM. */
  key: string;
  /** PEM. */
  request: string;
}

const EC_SHA256 = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const COMMON_NAME = [0x06, 0x03, 0x55, 0x04, 0x03];

function der(tag: number, ...parts: ArrayLike<number>[]): number[] {
  const content = parts.flatMap((part) => Array.from(part));
  const { length } = content;
  const size = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return [tag, ...size, ...content];
}

const sequence = (...parts: ArrayLike<number>[]) => der(0x30, ...parts);

/** A positive integer in as few octets as it takes. */
export function integer(octets: ArrayLike<number>): number[] {
  const all = Array.from(octets);
  while (all.length > 1 && all[0] === 0) all.shift();
  return der(0x02, (all[0] ?? 0) >= 0x80 ? [0, ...all] : all);
}

export function pem(what: string, content: ArrayLike<number>): string {
  const text = btoa(String.fromCharCode(...Array.from(content)));
  return `-----BEGIN ${what}-----\n${text.replace(/.{1,64}/g, '$&\n')}-----END ${what}-----\n`;
}

export async function makeUserKey(name: string): Promise<UserKey> {
  const kind = { name: 'ECDSA', namedCurve: 'P-256' };
  const pair = await crypto.subtle.generateKey(kind, true, ['sign', 'verify']);
  const exported = async (format: 'spki' | 'pkcs8', key: CryptoKey) => new Uint8Array(await crypto.subtle.exportKey(format, key));
  const attribute = sequence(COMMON_NAME, der(0x0c, new TextEncoder().encode(name)));
  const subject = sequence(der(0x31, attribute));
  const wish = sequence(integer([0]), subject, await exported('spki', pair.publicKey), der(0xa0));
  const signed = await crypto.subtle.sign({ name: 'ECDSA', hash: 'SHA-256' }, pair.privateKey, new Uint8Array(wish));
  const halves = new Uint8Array(signed);
  const signature = sequence(integer(halves.slice(0, 32)), integer(halves.slice(32)));
  const request = sequence(wish, sequence(EC_SHA256), der(0x03, [0], signature));
  return { key: pem('PRIVATE KEY', await exported('pkcs8', pair.privateKey)), request: pem('CERTIFICATE REQUEST', request) };
}

/** What `piccolo --context FILE` reads; texts in JSON are texts in YAML. */
export function contextFile(of: { server: string; cluster: string; ca: string; certificate: string; key: string }): string {
  return Object.entries(of).map(([name, value]) => `${name}: ${JSON.stringify(value)}\n`).join('');
}
