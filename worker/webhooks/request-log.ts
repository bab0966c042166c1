import type { RequestId } from '../../shared/ids.ts';
import { decodeEvent, type LoggedEvent, parseEventId } from '../../shared/protocol/event.ts';
import type { Keys } from '../../shared/protocol/keys.ts';
import type { RedisClient } from '../queue/connection.ts';

const EVENTS_PER_PAGE = 500;

export interface LogRange {
  /** Event ids, the first one left out; absent for the whole log. */
  readonly after?: string;
  readonly until?: string;
}

/** The events of a request's log, in pages. */
export async function* readLog(
  client: RedisClient,
  keys: Keys,
  id: RequestId,
  { after = '-', until = '+' }: LogRange = {},
): AsyncGenerator<LoggedEvent> {
  let start = after === '-' ? '-' : `(${after}`;
  for (;;) {
    const page = await client.xrange(keys.request(id).log, start, until, 'COUNT', EVENTS_PER_PAGE);
    for (const [entryId, [, payload = '']] of page) {
      const eventId = parseEventId(entryId);
      if (eventId !== null) yield { id: eventId, event: decodeEvent(payload) };
    }
    const last = page.at(-1);
    if (last === undefined || page.length < EVENTS_PER_PAGE) return;
    start = `(${last[0]}`;
  }
}

/** @returns the id of the last event, or `null` for an empty log */
export async function lastEventId(
  client: RedisClient,
  keys: Keys,
  id: RequestId,
): Promise<string | null> {
  const [last] = await client.xrevrange(keys.request(id).log, '+', '-', 'COUNT', 1);
  return last?.[0] ?? null;
}
