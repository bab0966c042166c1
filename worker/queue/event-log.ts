import type { RequestId, TokenId } from '../../shared/ids.ts';
import {
  decodeEvent,
  type EchoEvent,
  encodeEvent,
  type FinishReason,
  type RequestEvent,
  type TokensEvent,
} from '../../shared/protocol/event.ts';
import { mergeEvents } from '../../shared/protocol/event-merge.ts';
import { type Job, numChoices } from '../../shared/protocol/job.ts';
import type { Keys } from '../../shared/protocol/keys.ts';
import {
  type CancelReason,
  decodeTrimmed,
  type EndStatus,
  type RequestScripts,
  type TrimmedChoice,
  type WriteReply,
} from '../../shared/protocol/request-scripts.ts';
import type { PublishedChoice } from './generation.ts';
import type { PatientRedis } from './patient-redis.ts';

/** Steps that follow each other faster than this share an entry of the log. */
const MIN_INTERVAL_MS = 5;

/** `finished` by this writer, or why Redis no longer takes its events. */
export type LogEnd = 'finished' | 'dropped' | Exclude<WriteReply['type'], 'ok'>;

export interface EventLogOptions {
  readonly id: RequestId;
  readonly epoch: number;
  readonly nextSeq: number;
  readonly onCancel: (reason: CancelReason) => void;
}

/** Is told what the log has come to hold. */
export type OnWritten = (events: readonly RequestEvent[], nextSeq: number) => Promise<void>;

interface Ending {
  readonly status: EndStatus;
}

/**
 * Appends the events of one claim to the request's log, one call at a time. While a call is under
 * way, and for 5 ms from its beginning, further events gather.
 */
export class EventLog {
  /** Settles when nothing more is to be written. */
  readonly ended: Promise<LogEnd>;
  readonly #scripts: RequestScripts;
  readonly #options: EventLogOptions;
  readonly #end: (end: LogEnd) => void;
  readonly #fail: (error: unknown) => void;
  /** Set once it is known what the log holds. */
  onWritten: OnWritten | null = null;
  #nextSeq: number;
  #pending: RequestEvent[] = [];
  #ending: Ending | null = null;
  #writing: Promise<void> | null = null;
  #hasEnded = false;

  constructor(scripts: RequestScripts, options: EventLogOptions) {
    const { promise, resolve, reject } = Promise.withResolvers<LogEnd>();
    this.ended = promise;
    this.#end = resolve;
    this.#fail = reject;
    this.#scripts = scripts;
    this.#options = options;
    this.#nextSeq = options.nextSeq;
  }

  get isEnding(): boolean {
    return this.#ending !== null;
  }

  append(events: readonly RequestEvent[]): void {
    if (this.#hasEnded || this.isEnding) return;
    mergeEvents(this.#pending, events);
    this.#start();
  }

  /** Writes `last` after all that was appended, together with the end of the request. */
  finish(last: RequestEvent, ending: Ending): void {
    if (this.#hasEnded || this.isEnding) return;
    this.#pending.push(last);
    this.#ending = ending;
    this.#start();
  }

  /** Resolves when everything appended so far is in Redis, or nothing more will be. */
  async flush(): Promise<void> {
    await this.#writing;
  }

  /** Writes nothing more. */
  drop(): void {
    this.#hasEnded = true;
    this.#end('dropped');
  }

  #start(): void {
    this.#writing ??= this.#writeAll()
      .catch(this.#fail)
      .finally(() => {
        this.#writing = null;
      });
  }

  async #writeAll(): Promise<void> {
    while (this.#pending.length > 0 && !this.#hasEnded) {
      const start = performance.now();
      await this.#writePending();
      const restMs = MIN_INTERVAL_MS - (performance.now() - start);
      if (restMs > 0 && !this.#hasEnded && !this.isEnding) await delay(restMs);
    }
  }

  async #writePending(): Promise<void> {
    const ending = this.#ending;
    const { id, epoch, onCancel } = this.#options;
    const events = this.#pending;
    const write = { epoch, firstSeq: this.#nextSeq, payloads: events.map(encodeEvent) };
    this.#pending = [];
    const reply =
      ending === null
        ? await this.#scripts.append(id, write)
        : await this.#scripts.finish(id, { ...write, ...ending });
    if (reply.type !== 'ok' || ending !== null) {
      this.#hasEnded = true;
      this.#end(reply.type === 'ok' ? 'finished' : reply.type);
      return;
    }
    this.#nextSeq = reply.nextSeq;
    if (reply.cancel !== null) onCancel(reply.cancel);
    await this.onWritten?.(events, reply.nextSeq);
  }
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

const PAGE_SIZE = 500;

/** How far each choice of a request has come, by what its log holds. @returns [numChoices] */
export async function readPublished(
  redis: PatientRedis,
  keys: Keys,
  job: Job,
): Promise<PublishedChoice[]> {
  const { state, log } = keys.request(job.id);
  const trimmed = decodeTrimmed(
    (await redis.ask((client) => client.hget(state, 'trimmed'))) ?? '[]',
  );
  const choices = Array.from(
    { length: numChoices(job) },
    (_, choice) => new ChoiceProgress(trimmed[choice]),
  );
  for (let start = '-'; ; ) {
    const entries = await redis.ask((client) => client.xrange(log, start, '+', 'COUNT', PAGE_SIZE));
    for (const [, fields] of entries) {
      const event = decodeEvent(fields[1] ?? '');
      if (event.type === 'echo' || event.type === 'tokens') choices[event.choice]?.take(event);
    }
    const last = entries.at(-1);
    if (last === undefined || entries.length < PAGE_SIZE) return choices;
    start = `(${last[0]}`;
  }
}

class ChoiceProgress implements PublishedChoice {
  readonly tokenIds: TokenId[] = [];
  readonly numTrimmed: number;
  textLength: number;
  hasEcho: boolean;
  finishReason: FinishReason | null;

  /** @param trimmed how far it had come where the log begins; absent for a whole log */
  constructor(trimmed?: TrimmedChoice) {
    this.numTrimmed = trimmed?.numTokens ?? 0;
    this.textLength = trimmed?.textLength ?? 0;
    this.hasEcho = trimmed?.hasEcho ?? false;
    this.finishReason = trimmed?.finishReason ?? null;
  }

  take(event: EchoEvent | TokensEvent): void {
    if (event.type === 'echo') {
      this.hasEcho = true;
      return;
    }
    for (const tokenId of event.tokenIds) this.tokenIds.push(tokenId);
    this.textLength += event.text.length;
    this.finishReason = event.finishReason;
  }
}
