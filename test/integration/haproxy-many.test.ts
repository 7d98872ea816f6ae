import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import type { HostSession } from '../../src/ports/host-session.ts';
import { selfSigned } from '../support/pem.ts';
import { haproxyLab } from './haproxy-fixture.ts';

const CERTIFICATES = 300;

/** Counts what needs a round trip of its own; stats of files are asked side by side. */
function counting(session: HostSession, counts: { sockets: number; reads: number }): HostSession {
  return new Proxy(session, {
    get: (target, name) => {
      if (name === 'connectSocket') counts.sockets += 1;
      if (name === 'readFile') counts.reads += 1;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

test('hundreds of certificates of a host are looked at over one connection, in a handful of round trips', async ({
  signal,
}) => {
  const bundle = selfSigned('many.test').bundlePem;
  const names = Array.from({ length: CERTIFICATES }, (_, i) => `${i}.pem`);
  const counts = { sockets: 0, reads: 0 };
  let sessions = 0;
  const lab = await haproxyLab({
    host: {
      haproxy: {
        certificates: Object.fromEntries(names.map((name) => [name, bundle])),
        wholeDirectory: true,
      },
    },
    wrap: (session) => {
      sessions += 1;
      return counting(session, counts);
    },
  });
  const deployments = names.map((name) => {
    const path = join(dirname(lab.deployment.path), name);
    return { ...lab.deployment, path, file: path };
  });
  const pass = async () => {
    Object.assign(counts, { sockets: 0, reads: 0 });
    const { places } = await lab.haproxy.observe(deployments, { signal });
    return Object.values(places).filter(({ file, loaded }) => file.state === 'present' && loaded).length;
  };

  expect(await pass()).toBe(CERTIFICATES);
  expect(counts.reads).toBe(CERTIFICATES);
  lab.clock.advance(10_000);
  await pass();

  expect(await pass()).toBe(CERTIFICATES);
  expect(counts.reads).toBe(0);
  expect(counts.sockets).toBeLessThanOrEqual(4);
  expect(sessions).toBe(1);
});
