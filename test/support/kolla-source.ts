import { existsSync } from 'node:fs';
import { copyFile, cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { builtImage } from '../setup/built-images.mjs';
import { BASE_IMAGES } from '../setup/containers.mjs';
import { OVERRIDES, packKacme } from './images.ts';
import type { TestPodman } from './podman.ts';

const repository = join(import.meta.dirname, '..', '..');
const IMAGE = 'localhost/kolla-src/kacme:check';
const BASE = 'localhost/kolla-src/base:check';
const BUILDER = 'localhost/kolla-src/kolla-build:check';

/** What kolla's base image has of its contract, on our Debian: the whole of it takes repositories that tests do not reach. */
const BASE_DOCKERFILE = `
ARG BASE
FROM \${BASE}
RUN apt-get -qq update && apt-get -qq -y install --no-install-recommends python3-yaml dumb-init
RUN groupadd --gid 42400 kolla && useradd -l -M --uid 42400 --gid 42400 kolla
COPY set_configs.py /usr/local/bin/kolla_set_configs
COPY start.sh /usr/local/bin/kolla_start
COPY copy_cacerts.sh /usr/local/bin/kolla_copy_cacerts
COPY install_projects.sh /usr/local/bin/kolla_install_projects
COPY healthcheck_* /usr/local/bin/
COPY sudoers /etc/sudoers
RUN chmod 755 /usr/local/bin/kolla_* /usr/local/bin/healthcheck_* && chmod 440 /etc/sudoers \\
    && touch /usr/local/bin/kolla_extend_start && chmod 644 /usr/local/bin/kolla_extend_start \\
    && install -d -g kolla -m 2775 /var/log/kolla
ENTRYPOINT ["dumb-init", "--single-child", "--"]
CMD ["kolla_start"]
`;

/** What kolla-build needs; it renders here, and builds nothing. */
const BUILDER_DOCKERFILE = `
ARG BASE
FROM \${BASE}
RUN apt-get -qq update && apt-get -qq -y install --no-install-recommends python3-oslo.config python3-git python3-pbr python3-yaml python3-docker git
`;

/** docker/kolla rendered by kolla-build of the checkout, on a base that runs the checkout's own start scripts. */
export async function kollaImageFrom(source: string, podman: TestPodman): Promise<string> {
  const at = (name: string) => join(podman.directory, name);
  // Older releases have their images at the top.
  const images = [join(source, 'kolla/docker'), join(source, 'docker')].find((path) =>
    existsSync(join(path, 'base')),
  );
  if (images === undefined)
    throw new Error(`KOLLA_SRC: ${source} is no checkout of kolla: it has no docker/base`);
  const build = async (name: string, dockerfile: string, tag: string) => {
    await writeFile(at(`${name}/Dockerfile`), dockerfile);
    const args = { BASE: BASE_IMAGES.debian };
    const [context, file] = [at(name), at(`${name}/Dockerfile`)];
    podman.readFrom(await builtImage({ tag, file, context, inputs: [context], args }));
  };
  await cp(join(images, 'base'), at('base'), { recursive: true });
  await build('base', BASE_DOCKERFILE, BASE);
  await mkdir(at('builder'));
  await build('builder', BUILDER_DOCKERFILE, BUILDER);

  const archive = await packKacme(podman.directory);
  const conf = await readFile(join(repository, 'docker/kolla/kolla-build.conf'), 'utf8');
  await writeFile(at('kolla-build.conf'), conf.replace(/^location = .*$/m, `location = /build/${archive}`));
  await writeFile(at('overrides.j2'), OVERRIDES);
  await mkdir(at('work'));
  const mounts = [`${source}:/kolla:ro`, `${podman.directory}:/build`, `${repository}/docker/kolla:/ours:ro`];
  const { status, stdout, stderr } = await podman.run({
    image: BUILDER,
    flags: [...mounts.flatMap((mount) => ['-v', mount]), '-e', 'PBR_VERSION=1.0.0'],
    args: [
      ...['python3', '/kolla/kolla/cmd/build.py', '--template-only', '--work-dir', '/build/work'],
      ...['--config-file', '/build/kolla-build.conf', '--docker-dir', '/ours'],
      ...['--template-override', '/build/overrides.j2', '--base', 'debian'],
      ...['--namespace', 'localhost/kolla-src', '--tag', 'check', '^kacme$'],
    ],
  });
  if (status !== 0) throw new Error(`kolla-build ended with ${status}: ${stdout}\n${stderr}`);
  const context = at('work/docker/kacme');
  await copyFile(at(archive), join(context, 'kacme-archive'));
  if (!(await readdir(context)).includes('Dockerfile')) throw new Error('kolla-build rendered no Dockerfile');
  await podman.build({ file: join(context, 'Dockerfile'), context, tag: IMAGE });
  return IMAGE;
}
