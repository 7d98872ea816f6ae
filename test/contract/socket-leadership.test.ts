import { onTestFinished } from 'vitest';
import { SocketLeadership } from '../../src/store/socket-leadership.ts';
import { scratchDirectory } from '../support/scratch.ts';
import { describeLeadership } from './leadership.contract.ts';
import { realClock as clock } from './real-clock.ts';

describeLeadership('leadership by sockets', async () => {
  const scratch = await scratchDirectory();
  onTestFinished(() => scratch.remove());
  return { contender: async () => new SocketLeadership(scratch.path, { clock, command: 'kacme serve' }) };
});
