import { type LinkEnds, openLink } from './link.ts';
import type { LinkQuality } from './miles-away.ts';

/** What the bench asks a delayer for, over its channel: one link for each host. */
export interface LinkOrder {
  readonly quality: LinkQuality;
  readonly links: readonly LinkEnds[];
}

async function obey({ quality, links }: LinkOrder): Promise<void> {
  for (const link of links) await openLink(link, quality);
  process.send?.({ links: links.length });
}

process.on('message', (order: LinkOrder) => void obey(order));
process.on('disconnect', () => process.exit());
