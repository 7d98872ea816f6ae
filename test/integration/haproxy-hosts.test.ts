import { once } from 'node:events';
import { expect, test } from 'vitest';
import type { HostSession } from '../../src/ports/host-session.ts';
import { haproxyLab } from './haproxy-fixture.ts';

/** A lab, and every session that was opened to its host. */
async function labWithSessions() {
  const sessions: HostSession[] = [];
  const lab = await haproxyLab({
    wrap: (session) => {
      sessions.push(session);
      return session;
    },
  });
  const { pool, host } = lab.haproxy;
  const observe = (signal: AbortSignal) => lab.hosts.host(pool, host).observe([lab.deployment], { signal });
  return { ...lab, target: { pool, host }, sessions, observe };
}

async function untilClosed({ closed }: HostSession): Promise<void> {
  if (!closed.aborted) await once(closed, 'abort');
}

test('a host that is retained keeps its connection', async ({ signal }) => {
  const { hosts, target, sessions, observe } = await labWithSessions();
  await observe(signal);
  hosts.retain([target]);
  await observe(signal);
  expect(sessions.map(({ closed }) => closed.aborted)).toEqual([false]);
});

test('a host that is not is let go, when what it was asked for is done', async ({ signal }) => {
  const { hosts, sessions, observe } = await labWithSessions();
  const observing = observe(signal);
  hosts.retain([]);
  expect(await observing).toMatchObject({ haproxy: { state: 'running' } });
  expect(sessions).toHaveLength(1);
  for (const session of sessions) await untilClosed(session);
});

test('a host that is asked for all the same is connected for that call alone', async ({ signal }) => {
  const { hosts, target, sessions, observe } = await labWithSessions();
  hosts.retain([]);
  await observe(signal);
  await observe(signal);
  expect(sessions.map(({ closed }) => closed.aborted)).toEqual([true, true]);

  hosts.retain([target]);
  await observe(signal);
  await observe(signal);
  expect(sessions.map(({ closed }) => closed.aborted)).toEqual([true, true, false]);
});
