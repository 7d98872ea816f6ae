import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, test } from 'vitest';
import { fingerprintOf, judgeHostKey, parseKnownHosts } from '../../src/ssh/known-hosts.ts';
import { programs } from '../support/programs.ts';
import { scratchDirectory } from '../support/scratch.ts';

const run = promisify(execFile);
const keygen = (args: readonly string[]) => run(programs().sshKeygen, args, { env: { ...programs().env } });

const HOSTS = ['lb1.test', '10.0.0.11', 'fd00::13'];

let directory: string;
/** Two keys: `type base64` each. */
let keys: readonly { readonly text: string; readonly blob: Buffer; readonly file: string }[];

beforeAll(async () => {
  const scratch = await scratchDirectory();
  directory = scratch.path;
  keys = await Promise.all(
    ['ed25519', 'ecdsa'].map(async (type) => {
      const file = join(directory, type);
      await keygen(['-q', '-t', type, '-N', '', '-C', '', '-f', file]);
      const text = (await readFile(`${file}.pub`, 'utf8')).trim();
      return { text, blob: Buffer.from(text.split(' ')[1] ?? '', 'base64'), file: `${file}.pub` };
    }),
  );
  return () => scratch.remove();
});

async function knownHostsFile(lines: readonly string[]): Promise<string> {
  const file = join(directory, `known_hosts.${lines.length}`);
  await writeFile(file, `${lines.join('\n')}\n`);
  return file;
}

test('a fingerprint is written as ssh-keygen -lf writes it', async () => {
  for (const { file, blob } of keys)
    expect((await keygen(['-lf', file])).stdout).toContain(` ${fingerprintOf(blob)} `);
});

describe('a file that ssh-keygen -H has hashed', () => {
  test('gives the same answers as before, for hosts with and without a port', async () => {
    const [pinned, other] = keys;
    if (!pinned || !other) throw new Error('two keys were made');
    const file = await knownHostsFile(
      HOSTS.flatMap((host) => [`${host} ${pinned.text}`, `[${host}]:2985 ${other.text}`]),
    );
    await keygen(['-H', '-f', file]);
    const text = await readFile(file, 'utf8');
    expect(text).not.toContain(HOSTS[0]);
    const knownHosts = parseKnownHosts(text, file);
    expect(knownHosts.ignored).toEqual([]);
    for (const [index, host] of HOSTS.entries()) {
      expect(judgeHostKey(knownHosts, { host, port: 22 }, pinned.blob)).toMatchObject({
        verdict: 'known',
        pinned: { line: 2 * index + 1 },
      });
      expect(judgeHostKey(knownHosts, { host, port: 2985 }, other.blob)).toMatchObject({
        verdict: 'known',
        pinned: { line: 2 * index + 2 },
      });
      expect(judgeHostKey(knownHosts, { host, port: 2985 }, pinned.blob).verdict).toBe('changed');
    }
  });
});

test('every line that ssh-keygen -F finds for a name is found here, and no other', async () => {
  const [pinned] = keys;
  if (!pinned) throw new Error('a key was made');
  const fields = [
    'lb1.test,10.0.0.11',
    '*.test',
    '*.test,!lb1.test',
    'lb?.test',
    '[lb1.test]:2985',
    '[*.test]:2985',
    'LB1.TEST',
    '10.0.0.*',
    '!lb2.test',
    '[10.0.0.1?]:*',
    '*',
  ];
  const file = await knownHostsFile(fields.map((field) => `${field} ${pinned.text}`));
  const { entries } = parseKnownHosts(await readFile(file, 'utf8'), file);
  for (const name of ['lb1.test', 'lb2.test', '10.0.0.11', '[lb1.test]:2985', '[10.0.0.11]:2985', 'other']) {
    const { stdout } = await keygen(['-F', name, '-f', file]).catch(() => ({ stdout: '' }));
    const found = [...stdout.matchAll(/found: line (\d+)/g)].map(([, line]) => Number(line));
    const ours = entries.filter((entry) => entry.pattern(name)).map((entry) => entry.line);
    expect({ name, lines: ours }).toEqual({ name, lines: found });
  }
});
