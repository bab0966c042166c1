import type { RequestId } from '../../shared/ids.ts';
import { encodeEvent, type RequestEvent } from '../../shared/protocol/event.ts';
import { mergeEvents } from '../../shared/protocol/event-merge.ts';
import type {
  EndStatus,
  RequestScripts,
  Write,
  WriteReply,
} from '../../shared/protocol/request-scripts.ts';

/** Steps that follow each other faster than this share an entry of the log. */
const MIN_INTERVAL_MS = 5;

/** `finished` by this writer, or why Redis no longer takes its events. */
export type LogEnd = 'finished' | 'dropped' | Exclude<WriteReply['type'], 'ok'>;

export interface EventLogOptions {
  readonly id: RequestId;
  readonly epoch: number;
  readonly nextSeq: number;
}

/** Follows what is written to a log before its last event. */
export interface LogWatch {
  /** @returns how far the request has come with the events, encoded, where that is to be kept */
  beforeWrite(events: readonly RequestEvent[], payloads: readonly string[]): string | undefined;
  afterWrite(reply: WriteReply): Promise<void>;
}

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
  readonly #reject: (error: unknown) => void;
  /** Set once it is known what the log holds. */
  watch: LogWatch | null = null;
  #nextSeq: number;
  #pending: RequestEvent[] = [];
  #ending: Ending | null = null;
  #writing: Promise<void> | null = null;
  #hasEnded = false;

  constructor(scripts: RequestScripts, options: EventLogOptions) {
    const { promise, resolve, reject } = Promise.withResolvers<LogEnd>();
    this.ended = promise;
    this.#end = resolve;
    this.#reject = reject;
    this.#scripts = scripts;
    this.#options = options;
    this.#nextSeq = options.nextSeq;
  }

  /** Length of the log, by what this writer knows. */
  get nextSeq(): number {
    return this.#nextSeq;
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
    this.stop('dropped');
  }

  /** Writes nothing more, for the reason given. */
  stop(end: LogEnd): void {
    this.#hasEnded = true;
    this.#end(end);
  }

  /** Writes nothing more because of a bug. */
  fail(error: unknown): void {
    this.#hasEnded = true;
    this.#reject(error);
  }

  #start(): void {
    this.#writing ??= this.#writeAll()
      .catch((error: unknown) => this.fail(error))
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
    const events = this.#pending;
    const payloads = events.map(encodeEvent);
    const write = { epoch: this.#options.epoch, firstSeq: this.#nextSeq, payloads };
    this.#pending = [];
    const reply = await this.#send(events, write, ending);
    if (reply.type !== 'ok' || ending !== null) {
      this.stop(reply.type === 'ok' ? 'finished' : reply.type);
      return;
    }
    this.#nextSeq = reply.nextSeq;
    await this.watch?.afterWrite(reply);
  }

  #send(events: readonly RequestEvent[], write: Write, ending: Ending | null): Promise<WriteReply> {
    const { id } = this.#options;
    if (ending !== null) return this.#scripts.finish(id, { ...write, ...ending });
    const progress = this.watch?.beforeWrite(events, write.payloads);
    return this.#scripts.append(id, progress === undefined ? write : { ...write, progress });
  }
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
