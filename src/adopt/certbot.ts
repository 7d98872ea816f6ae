import { createPrivateKey, type JsonWebKey } from 'node:crypto';
import { join } from 'node:path';
import * as z from 'zod';
import type { AdoptionFindings, FoundAccount, FoundBundle } from '../ports/adoption-source.ts';
import { collect } from './collect.ts';
import type { ForeignFiles } from './foreign-directory.ts';

const Registration = z.looseObject({ uri: z.string() });
const Key = z.looseObject({ kty: z.string() });

/**
 * What certbot keeps below its `--config-dir`: `renewal/NAME.conf` names the CA and the present files (`live/NAME/`
 * unless it says otherwise); accounts lie in `accounts/SERVER/PATH.../ID/` with `regr.json` and the key as a JWK (RFC
 * 7517) in `private_key.json`.
 */
export async function readCertbotDirectory(
  directory: string,
  files: ForeignFiles,
): Promise<AdoptionFindings> {
  const renewal = join(directory, 'renewal');
  const names = (await files.list(renewal))
    .filter((name) => name.endsWith('.conf'))
    .map((name) => name.slice(0, -'.conf'.length));
  const accounts = await accountDirectories(join(directory, 'accounts'), files);
  return collect(
    names.map((name) => ({
      where: join(renewal, `${name}.conf`),
      read: () => readBundle(directory, name, files),
    })),
    accounts.map((path) => ({ where: join(path, 'regr.json'), read: () => readAccount(path, files) })),
  );
}

async function readBundle(directory: string, name: string, files: ForeignFiles): Promise<FoundBundle> {
  const settings = parseSettings(await files.read(join(directory, 'renewal', `${name}.conf`)));
  const live = join(directory, 'live', name);
  // A directory that was copied elsewhere still names its old place: what lies in `live` here comes first.
  const present = await files.list(live);
  const pathOf = (file: string, setting: string) =>
    present.includes(file) ? join(live, file) : (settings.get(setting) ?? join(live, file));
  const where = pathOf('fullchain.pem', 'fullchain');
  const [chain, key] = await Promise.all([files.read(where), files.read(pathOf('privkey.pem', 'privkey'))]);
  return { where, pem: `${chain}\n${key}`, caUrl: settings.get('server') };
}

/** Of the INI file only `key = value` lines: names of certificates are never looked for in it. */
function parseSettings(text: string): ReadonlyMap<string, string> {
  const pairs = Array.from(
    text.matchAll(/^[ \t]*(\w+)[ \t]*=[ \t]*(.*?)[ \t]*$/gm),
    ([, key = '', value = '']) => {
      return [key, value] as const;
    },
  );
  return new Map(pairs);
}

/** The path of the directory's URL makes directories of its own, so they are looked for at every depth. */
async function accountDirectories(path: string, files: ForeignFiles, depth = 0): Promise<readonly string[]> {
  const names = await files.list(path);
  if (names.includes('regr.json')) return [path];
  if (depth > 6) return [];
  const below = await Promise.all(
    names.map((name) => accountDirectories(join(path, name), files, depth + 1)),
  );
  return below.flat();
}

async function readAccount(path: string, files: ForeignFiles): Promise<FoundAccount> {
  const { uri } = Registration.parse(JSON.parse(await files.read(join(path, 'regr.json'))));
  const jwk = Key.parse(JSON.parse(await files.read(join(path, 'private_key.json'))));
  return { where: join(path, 'regr.json'), keyPem: pemOf(jwk as JsonWebKey), url: uri };
}

function pemOf(jwk: JsonWebKey): string {
  try {
    return createPrivateKey({ key: jwk, format: 'jwk' }).export({ format: 'pem', type: 'pkcs8' }).toString();
  } catch {
    // The parser's message could quote the key: it is left out.
    throw new Error('private_key.json holds no key that can be read');
  }
}
