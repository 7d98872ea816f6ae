import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { registryPath } from '../setup/newer-debian.mjs';
import { type RunningProcess, startProcess } from './process.ts';

/** A registry of images without TLS. */
export async function startRegistry(options: {
  /** `address:port`. */
  readonly listen: string;
  /** What a command line begins with that is run where it listens. */
  readonly enter: readonly string[];
  /** Of its files. */
  readonly directory: string;
}): Promise<RunningProcess> {
  const { listen, enter, directory } = options;
  const config = join(directory, 'registry.yml');
  await mkdir(join(directory, 'images'), { recursive: true });
  await writeFile(
    config,
    JSON.stringify({
      version: '0.1',
      log: { level: 'info', accesslog: { disabled: true } },
      storage: { filesystem: { rootdirectory: join(directory, 'images') } },
      http: { addr: listen },
    }),
  );
  const [command = '', ...args] = [...enter, registryPath(), 'serve', config];
  const { PATH = '/usr/sbin:/usr/bin:/sbin:/bin' } = process.env;
  return startProcess({
    name: 'registry',
    command,
    args,
    env: { PATH, OTEL_TRACES_EXPORTER: 'none' },
    ready: (output) => output.includes(`listening on ${listen}`),
  });
}
