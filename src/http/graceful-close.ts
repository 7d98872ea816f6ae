import { once } from 'node:events';
import type { Server, ServerResponse } from 'node:http';

/**
 * Follows the answers of `server` from now on. The returned function closes it: no new connection is taken, answers
 * under way get `withinMs` to end, and what says nothing is cut off at once.
 */
export function gracefulClose(server: Server): (withinMs: number) => Promise<void> {
  const answers = new Set<ServerResponse>();
  server.on('request', (_request, response) => {
    answers.add(response);
    response.once('close', () => answers.delete(response));
  });
  return async (withinMs) => {
    const closed = once(server, 'close');
    server.close();
    const bound = AbortSignal.timeout(withinMs);
    await Promise.allSettled(Array.from(answers, (answer) => once(answer, 'close', { signal: bound })));
    server.closeAllConnections();
    await closed;
  };
}
