import type { Client } from 'ssh2';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { Liveness } from '../../../src/ssh/liveness.ts';

/** A server that answers a question when the test says so. */
class Server {
  readonly callbacks: (() => void)[] = [];
  asked = 0;
  dead = 0;
  readonly liveness: Liveness;

  constructor(patience = 2) {
    const ping = () => {
      this.asked += 1;
    };
    const client = { _callbacks: this.callbacks, _protocol: { ping } };
    this.liveness = new Liveness(client as unknown as Client, {
      patience,
      onDead: () => {
        this.dead += 1;
      },
    });
  }

  answer(): void {
    for (const answered of this.callbacks.splice(0)) answered();
  }
}

beforeEach(() => {
  vi.useFakeTimers();
  return () => vi.useRealTimers();
});

describe('a connection', () => {
  test('on which nothing is waited for is asked nothing, however long', () => {
    const server = new Server();
    vi.advanceTimersByTime(3_600_000);
    const leave = server.liveness.enter();
    leave();
    vi.advanceTimersByTime(3_600_000);
    expect(server).toMatchObject({ asked: 0, dead: 0 });
    expect(vi.getTimerCount()).toBe(0);
  });

  test('is not asked during operations that are quick', () => {
    const server = new Server();
    for (let operation = 0; operation < 100; operation++) {
      const leave = server.liveness.enter();
      vi.advanceTimersByTime(100);
      leave();
    }
    expect(server.asked).toBe(0);
  });

  test('that answers is waited for as long as the operation takes', () => {
    const server = new Server();
    server.liveness.enter();
    for (let second = 0; second < 60; second++) {
      vi.advanceTimersByTime(1_000);
      server.answer();
    }
    expect(server).toMatchObject({ asked: 120, dead: 0 });
  });

  test('is asked while any of several operations is under way, and each ends once', () => {
    const server = new Server();
    const [first, second] = [server.liveness.enter(), server.liveness.enter()];
    first();
    first();
    vi.advanceTimersByTime(500);
    expect(server.asked).toBe(1);
    second();
    vi.advanceTimersByTime(5_000);
    expect(server).toMatchObject({ asked: 1, dead: 0 });
  });

  test.each([
    { patience: 2, deadAfterMs: 1_500 },
    { patience: 3, deadAfterMs: 2_000 },
  ])(
    'with patience $patience is dead after $deadAfterMs ms without an answer',
    ({ patience, deadAfterMs }) => {
      const server = new Server(patience);
      server.liveness.enter();
      vi.advanceTimersByTime(deadAfterMs - 1);
      expect(server.dead).toBe(0);
      vi.advanceTimersByTime(1);
      expect(server.dead).toBe(1);
      vi.advanceTimersByTime(60_000);
      expect(server).toMatchObject({ asked: patience, dead: 1 });
    },
  );
});
