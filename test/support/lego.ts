import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { TestPebble } from './pebble.ts';
import { programs } from './programs.ts';

export interface LegoOptions {
  readonly pebble: Pick<TestPebble, 'directoryUrl' | 'caFile'>;
  /** lego's `--path`. */
  readonly directory: string;
  readonly names: readonly string[];
  /** `address:port` where it answers HTTP-01, or the directory of a web server that does. */
  readonly answer: { readonly listen: string } | { readonly webroot: string };
}

/** Has the real lego register and obtain a certificate; it leaves both in its directory. */
export async function runLego({ pebble, directory, names, answer }: LegoOptions): Promise<void> {
  const { lego, env } = programs();
  const answering = 'listen' in answer ? ['--http.port', answer.listen] : ['--http.webroot', answer.webroot];
  const domains = names.flatMap((name) => ['--domains', name]);
  await promisify(execFile)(
    lego,
    [
      ...['--accept-tos', '--email', 'ops@example.org', '--server', pebble.directoryUrl, '--path', directory],
      ...[...domains, '--http', ...answering, '--pem', 'run'],
    ],
    { env: { ...env, LEGO_CA_CERTIFICATES: pebble.caFile, HOME: join(directory, '..') } },
  );
}
