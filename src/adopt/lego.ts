import { join } from 'node:path';
import * as z from 'zod';
import type { AdoptionFindings, FoundAccount, FoundBundle } from '../ports/adoption-source.ts';
import { collect } from './collect.ts';
import type { ForeignFiles } from './foreign-directory.ts';

const CertificateFile = z.looseObject({ certUrl: z.string().optional() });
const AccountFile = z.looseObject({
  email: z.string(),
  registration: z.looseObject({ uri: z.string() }),
});

/**
 * What lego 3 and 4 keep below their `--path`: `certificates/NAME.crt` (leaf and chain), `.key` and `.json`, and
 * `accounts/SERVER/EMAIL/account.json` with `keys/EMAIL.key` beside it. A directory of several such paths is read as all
 * of them: Kolla keeps one for the internal and one for the external certificate.
 */
export async function readLegoDirectory(directory: string, files: ForeignFiles): Promise<AdoptionFindings> {
  const found = await Promise.all((await legoPaths(directory, files)).map((path) => readPath(path, files)));
  return {
    bundles: found.flatMap(({ bundles }) => bundles),
    accounts: found.flatMap(({ accounts }) => accounts),
    problems: found.flatMap(({ problems }) => problems),
  };
}

async function legoPaths(directory: string, files: ForeignFiles): Promise<readonly string[]> {
  const names = await files.list(directory);
  if (names.some(isOfLego)) return [directory];
  const below = names.map((name) => join(directory, name));
  const contents = await Promise.all(below.map((path) => files.list(path)));
  return below.filter((_, index) => contents[index]?.some(isOfLego));
}

const isOfLego = (name: string): boolean => name === 'certificates' || name === 'accounts';

async function readPath(directory: string, files: ForeignFiles): Promise<AdoptionFindings> {
  const certificates = join(directory, 'certificates');
  const names = (await files.list(certificates))
    .filter((name) => name.endsWith('.crt') && !name.endsWith('.issuer.crt'))
    .map((name) => name.slice(0, -'.crt'.length));
  const accounts = join(directory, 'accounts');
  const owners = (
    await Promise.all(
      (
        await files.list(accounts)
      ).map(async (server) =>
        (await files.list(join(accounts, server))).map((email) => join(accounts, server, email)),
      ),
    )
  ).flat();
  return collect(
    names.map((name) => ({
      where: join(certificates, `${name}.crt`),
      read: () => readBundle(join(certificates, name), files),
    })),
    owners.map((path) => ({
      where: join(path, 'account.json'),
      read: () => readAccount(path, files),
    })),
  );
}

async function readBundle(stem: string, files: ForeignFiles): Promise<FoundBundle> {
  const [chain, key] = await Promise.all([files.read(`${stem}.crt`), files.read(`${stem}.key`)]);
  const { certUrl } = CertificateFile.parse(JSON.parse(await files.read(`${stem}.json`)));
  return { where: `${stem}.crt`, pem: `${chain}\n${key}`, caUrl: certUrl };
}

async function readAccount(path: string, files: ForeignFiles): Promise<FoundAccount> {
  const { email, registration } = AccountFile.parse(JSON.parse(await files.read(join(path, 'account.json'))));
  const keyPem = await files.read(join(path, 'keys', `${email}.key`));
  return { where: join(path, 'account.json'), keyPem, url: registration.uri };
}
