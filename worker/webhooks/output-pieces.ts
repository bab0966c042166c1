import { z } from 'zod';
import type { RequestId } from '../../shared/ids.ts';
import type { Keys } from '../../shared/protocol/keys.ts';
import { CUT_OUTPUT, OUTPUT_DONE } from '../../shared/protocol/notice-scripts.ts';
import { runScript, type ScriptHost } from '../../shared/protocol/request-scripts.ts';
import type { RedisClient } from '../queue/connection.ts';
import { lastEventId, readLog } from './request-log.ts';

/** What one choice said within a piece. */
export interface OutputText {
  readonly index: number;
  readonly text: string;
}

export interface OutputPiece {
  /** From 0, without a gap. */
  readonly sequence: number;
  readonly output: readonly OutputText[];
  /** Whether the log of an endless request was cut before all of it could be told. */
  readonly truncated: boolean;
}

export interface OutputContext {
  readonly client: RedisClient;
  readonly host: ScriptHost;
  readonly keys: Keys;
  /** Between two pieces. */
  readonly outputMs: number;
}

/** Before the first event of any log: no claim has the epoch 0. */
const START = '0-0';

const stateSchema = z
  .tuple([z.coerce.number(), z.coerce.number(), z.string().nullable(), z.string().nullable()])
  .transform(([numCut, numDone, from, until]) => ({ numCut, numDone, from, until }));

/**
 * Hands over what a request has said since its last piece of output, if that is long enough ago.
 * Where a piece begins and ends is written down before it is handed over, so that a repetition says
 * the same under the same id.
 *
 * @param isLast whether the request has ended: what is left is handed over at once
 */
export async function handOverOutput(
  id: RequestId,
  isLast: boolean,
  context: OutputContext,
  handOver: (piece: OutputPiece) => Promise<void>,
): Promise<void> {
  for (;;) {
    const { numCut, numDone, from, until } = await stateOf(id, context);
    if (numDone < numCut) {
      const said = await saidIn(id, { after: from ?? START, until: until ?? '+' }, context);
      await handOver({ sequence: numCut - 1, ...said });
      await runScript(context.host, OUTPUT_DONE, [context.keys.request(id).state], [numCut]);
    } else if (!(await cut(id, { numCut, after: until ?? START, isLast }, context))) return;
  }
}

async function stateOf(id: RequestId, { client, keys }: OutputContext) {
  const fields = ['outputsCut', 'outputsDone', 'outputFrom', 'outputUntil'] as const;
  return stateSchema.parse(await client.hmget(keys.request(id).state, ...fields));
}

interface Cut {
  readonly numCut: number;
  readonly after: string;
  readonly isLast: boolean;
}

/** @returns whether there was something to cut */
async function cut(
  id: RequestId,
  { numCut, after, isLast }: Cut,
  context: OutputContext,
): Promise<boolean> {
  const { client, host, keys, outputMs } = context;
  const until = await lastEventId(client, keys, id);
  if (until === null || until === after) return false;
  if ((await saidIn(id, { after, until }, context)).output.length === 0) return false;
  const args = [numCut, until, isLast ? 0 : outputMs];
  return (await runScript(host, CUT_OUTPUT, [keys.request(id).state], args)) === 1;
}

async function saidIn(
  id: RequestId,
  range: { readonly after: string; readonly until: string },
  { client, keys }: OutputContext,
): Promise<Omit<OutputPiece, 'sequence'>> {
  const textByChoice = new Map<number, string>();
  let nextSeq = range.after === START ? 0 : Number(range.after.split('-')[1]) + 1;
  let truncated = false;
  for await (const { id: eventId, event } of readLog(client, keys, id, range)) {
    if (eventId.seq > nextSeq) truncated = true; // events are numbered without a gap
    nextSeq = eventId.seq + 1;
    if (event.type !== 'tokens' || event.text === '') continue;
    textByChoice.set(event.choice, (textByChoice.get(event.choice) ?? '') + event.text);
  }
  return { output: Array.from(textByChoice, ([index, text]) => ({ index, text })), truncated };
}
