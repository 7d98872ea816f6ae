import { execFile } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { builtImage } from '../setup/built-images.mjs';
import { BASE_IMAGES } from '../setup/containers.mjs';
import { npmSecrets, type TestPodman } from './podman.ts';

const run = promisify(execFile);
const repository = join(import.meta.dirname, '..', '..');
const standIn = join(repository, 'test/images/kolla-base');

const TAGS = {
  plain: 'localhost/kacme:test',
  ssh: 'localhost/kacme-ssh:test',
  // Names as kolla-build gives them, for its namespace and tag (test/images/kolla-base/kolla-build).
  kollaBase: 'localhost/kacme-lab/base:latest',
  kollaHaproxy: 'localhost/kacme-lab/haproxy:latest',
  kollaLego: 'localhost/kacme-lab/lego-stand-in:latest',
  kolla: 'localhost/kacme-lab/kacme:latest',
  kollaSsh: 'localhost/kacme-lab/kacme-ssh:latest',
};

/** The plain image on a base that has Node alone. */
export async function plainImage(podman: TestPodman): Promise<string> {
  const build = async () =>
    podman.build({
      file: join(repository, 'docker', 'Dockerfile'),
      context: repository,
      tag: TAGS.plain,
      args: {
        BUILD_BASE: BASE_IMAGES.debian,
        BASE: BASE_IMAGES.nodeOnly,
        VERSION: '1.2.3',
        REVISION: 'abc',
        CREATED: '2026-01-02T03:04:05Z',
        SOURCE: 'https://git.example.org/kacme',
      },
      flags: await npmSecrets(podman.directory),
    });
  await podman.once(TAGS.plain, build);
  return TAGS.plain;
}

/** The hardened sshd. */
export async function sshImage(podman: TestPodman): Promise<string> {
  const directory = join(repository, 'docker/ssh');
  const store = await builtImage({
    tag: TAGS.ssh,
    file: join(directory, 'Dockerfile'),
    context: repository,
    inputs: [directory],
    args: { BASE: BASE_IMAGES.debian },
  });
  podman.readFrom(store);
  return TAGS.ssh;
}

async function kollaBase(podman: TestPodman): Promise<{ readonly image: string; readonly store: string }> {
  const store = await builtImage({
    tag: TAGS.kollaBase,
    file: join(standIn, 'Dockerfile'),
    context: standIn,
    inputs: [standIn],
    args: { BASE: BASE_IMAGES.debian },
  });
  podman.readFrom(store);
  return { image: TAGS.kollaBase, store };
}

/** HAProxy as Kolla has it. */
export const kollaHaproxyImage = (podman: TestPodman): Promise<string> =>
  onKollaBase(podman, TAGS.kollaHaproxy, 'test/images/kolla-haproxy');

/** What Kolla's images of its role letsencrypt, and of haproxy_ssh, have to have for their containers to run. */
export const kollaLegoImage = (podman: TestPodman): Promise<string> =>
  onKollaBase(podman, TAGS.kollaLego, 'test/images/kolla-lego');

async function onKollaBase(podman: TestPodman, tag: string, directory: string): Promise<string> {
  const { image, store } = await kollaBase(podman);
  const context = join(repository, directory);
  const own = await builtImage({
    tag,
    file: join(context, 'Dockerfile'),
    context,
    inputs: [context],
    args: { BASE: image },
    stores: [store],
  });
  podman.readFrom(own);
  return tag;
}

/** What a cloud that builds its own images may lay over the template: here, that Node comes from our own base. */
export const OVERRIDES = `{% extends parent_template %}
{% set kacme_packages_append = ['tzdata'] %}
{% block kacme_node %}
COPY --from=${BASE_IMAGES.nodeOnly} /usr/local/bin/node /usr/local/bin/node
{% endblock %}
{% block kacme_footer %}
RUN touch /footer-of-kacme
{% endblock %}
`;

/** Renders and builds what docker/kolla holds, as kolla-build would, on a base with Kolla's contract. */
export async function kollaImage(podman: TestPodman): Promise<string> {
  const base = await kollaBase(podman);
  const build = async () => {
    const archive = await packKacme(podman.directory);
    const conf = await readFile(join(repository, 'docker/kolla/kolla-build.conf'), 'utf8');
    const located = conf.replace(/^location = .*$/m, `location = /build/${archive}`);
    await kollaBuild(podman, base.image, {
      name: 'kacme',
      conf: located,
      overrides: OVERRIDES,
      tag: TAGS.kolla,
    });
  };
  await podman.once(TAGS.kolla, build);
  return TAGS.kolla;
}

/** A base that Kolla built has all of its users; the stand-in has none. */
const SSH_OVERRIDES = `{% extends parent_template %}
{% block kacme_ssh_header %}
RUN groupadd --gid 42454 haproxy && useradd -l -M --uid 42454 --gid 42454 haproxy
{% endblock %}
`;

/** The sidecar of each loadbalancer host, in Kolla's format. */
export async function kollaSshImage(podman: TestPodman): Promise<string> {
  const base = await kollaBase(podman);
  const build = async () => {
    await writeFile(join(podman.directory, 'no-source'), '');
    const conf =
      '[haproxy-user]\nuid = 42454\ngid = 42454\n[kacme-ssh]\ntype = local\nlocation = /build/no-source\n';
    const image = { name: 'kacme-ssh', conf, overrides: SSH_OVERRIDES, tag: TAGS.kollaSsh };
    await kollaBuild(podman, base.image, image);
  };
  await podman.once(TAGS.kollaSsh, build);
  return TAGS.kollaSsh;
}

/** Renders a directory of docker/kolla in the base image, and builds it. */
async function kollaBuild(
  podman: TestPodman,
  base: string,
  {
    name,
    conf,
    overrides,
    tag,
  }: {
    readonly name: string;
    readonly conf: string;
    readonly overrides: string;
    readonly tag: string;
  },
): Promise<void> {
  const at = (file: string) => join(podman.directory, `${name}-${file}`);
  await writeFile(at('build.conf'), conf);
  await writeFile(at('overrides.j2'), overrides);
  await mkdir(at('context'));
  const mounts = [`${podman.directory}:/build`, `${repository}/docker/kolla:/kolla:ro`, `${standIn}:/lab:ro`];
  const inside = (file: string) => `/build/${name}-${file}`;
  const { status, stderr } = await podman.run({
    image: base,
    flags: mounts.flatMap((mount) => ['-v', mount]),
    args: [
      '/lab/kolla-build',
      inside('build.conf'),
      `/kolla/${name}`,
      inside('overrides.j2'),
      inside('context'),
    ],
  });
  if (status !== 0) throw new Error(`rendering ${name} ended with ${status}: ${stderr}`);
  await podman.build({ file: join(at('context'), 'Dockerfile'), context: at('context'), tag });
}

/** What `npm pack` makes of a fresh build, by its name in `directory`. */
export async function packKacme(directory: string): Promise<string> {
  await run(process.execPath, ['build.mjs'], { cwd: repository });
  const pack = ['pack', '--silent', '--ignore-scripts', '--pack-destination', directory];
  await run('npm', pack, { cwd: repository });
  const { version } = JSON.parse(await readFile(join(repository, 'package.json'), 'utf8'));
  return `kacme-${version}.tgz`;
}
