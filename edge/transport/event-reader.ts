import { PlatformError } from '../../shared/errors.ts';
import {
  decodeEvent,
  type EventId,
  encodeEventId,
  isTerminal,
  type LoggedEvent,
  parseEventId,
} from '../../shared/protocol/event.ts';
import type { ChannelListener } from './subscriptions.ts';

export interface EventSource {
  /** The next entries of the log after `after`, as `[id, event]`; fewer than `count` at its end. */
  readLog(after: EventId | null, count: number): Promise<readonly (readonly [string, string])[]>;
  /** `gone` when the request is unknown or no longer kept. */
  stage(): Promise<'open' | 'ended' | 'gone'>;
}

/** What a client that reads slowly may leave unread here, in characters; beyond it the log keeps it. */
export const MAX_BUFFERED = 256 * 1024;
/** Entries of the log that are read at once: as many as the buffer would hold, by the size of those before. */
export const MAX_PAGE_SIZE = 200;
export const FIRST_PAGE_SIZE = 20;
/** After this long without news the log is read again: the message may have been lost. */
const IDLE_MS = 5000;
/** A stream outlives an absence of Redis of this length. */
const MAX_OUTAGE_MS = 60_000;
const RETRY_MS = 250;

/**
 * One reader's way through a request's events: messages as long as they follow each other without a gap,
 * and the log wherever they do not. Pub/sub is only the fast path; the log is the truth.
 */
export class EventReader implements ChannelListener {
  readonly #source: EventSource;
  readonly #signal: AbortSignal;
  #last: EventId | null;
  #mustReadLog: boolean;
  #hasEnded = false;
  #live: string[] = [];
  #numLive = 0;
  #numPaged = 0;
  #pageSize = FIRST_PAGE_SIZE;
  #wake: () => void = () => undefined;

  /** @param hasPast whether there may be events before the subscription was acknowledged */
  constructor(
    source: EventSource,
    { after, hasPast }: { readonly after: EventId | null; readonly hasPast: boolean },
    signal: AbortSignal,
  ) {
    this.#source = source;
    this.#last = after;
    this.#mustReadLog = hasPast;
    this.#signal = signal;
  }

  /** Characters that wait here for whoever reads. */
  get numBuffered(): number {
    return this.#numLive + this.#numPaged;
  }

  onMessage(message: string): void {
    if (this.#numLive + message.length > MAX_BUFFERED) {
      this.onGap();
      return;
    }
    this.#live.push(message);
    this.#numLive += message.length;
    this.#wake();
  }

  onGap(): void {
    this.#forgetLive();
    this.#mustReadLog = true;
    this.#wake();
  }

  /** Nothing will be added to the log. */
  onEnded(): void {
    this.#hasEnded = true;
    this.onGap();
  }

  /** Past the last event it was given; ends after the terminal one, or with the signal. */
  async *read(): AsyncGenerator<LoggedEvent, void, undefined> {
    while (!this.#signal.aborted) {
      const event = this.#nextLive();
      if (event !== null) {
        yield event;
        if (isTerminal(event.event)) return;
      } else if (this.#mustReadLog) {
        const page = await this.#nextPage();
        if (page.length === 0 && this.#hasEnded) return;
        for (const [text, payload] of page) {
          if (this.#signal.aborted) return;
          this.#numPaged -= payload.length;
          const logged = { id: toEventId(text), event: decodeEvent(payload) };
          this.#last = logged.id;
          yield logged;
          if (isTerminal(logged.event)) return;
        }
      } else if ((await this.#news()) === 'idle') await this.#checkLog();
    }
  }

  /** @returns `null` when there is none, or the next one does not follow the last */
  #nextLive(): LoggedEvent | null {
    for (;;) {
      const message = this.#live[0];
      if (message === undefined || this.#mustReadLog) return null;
      const space = message.indexOf(' ');
      const id = parseEventId(message.slice(0, space));
      if (id === null || id.seq > nextSeq(this.#last)) {
        this.onGap(); // what was dropped here is in the log: it was written before it was published
        return null;
      }
      this.#live.shift();
      this.#numLive -= message.length;
      if (!isAfter(id, this.#last)) continue;
      this.#last = id;
      return { id, event: decodeEvent(message.slice(space + 1)) };
    }
  }

  async #nextPage(): Promise<readonly (readonly [string, string])[]> {
    this.#mustReadLog = false; // before the reading: a gap from here on needs another one
    const entries = await this.#patiently(() => this.#source.readLog(this.#last, this.#pageSize));
    checkKept(entries[0]?.[0], this.#last);
    if (entries.length >= this.#pageSize) this.#mustReadLog = true;
    this.#numPaged = entries.reduce((sum, [, payload]) => sum + payload.length, 0);
    if (entries.length > 0) this.#pageSize = pageSizeFor(this.#numPaged / entries.length);
    return entries;
  }

  async #checkLog(): Promise<void> {
    const stage = await this.#patiently(() => this.#source.stage());
    if (stage === 'gone') throw new PlatformError('worker_lost', 'the request is no longer kept');
    if (stage === 'ended') this.onEnded();
    else this.#mustReadLog = true;
  }

  /** Resolves at the next message, gap or abort, or after a while without. */
  #news(): Promise<'news' | 'idle'> {
    return new Promise((resolve) => {
      const finish = (what: 'news' | 'idle') => {
        clearTimeout(timer);
        this.#signal.removeEventListener('abort', this.#wake);
        resolve(what);
      };
      const timer = setTimeout(() => finish('idle'), IDLE_MS);
      this.#wake = () => finish('news');
      this.#signal.addEventListener('abort', this.#wake);
    });
  }

  /** A stream that has begun waits for Redis to come back, up to a limit. */
  async #patiently<T>(call: () => Promise<T>): Promise<T> {
    const giveUpMs = Date.now() + MAX_OUTAGE_MS;
    for (;;) {
      try {
        return await call();
      } catch (error) {
        const isOutage = error instanceof PlatformError && error.code === 'unavailable';
        if (!isOutage || Date.now() > giveUpMs || this.#signal.aborted) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  #forgetLive(): void {
    this.#live = [];
    this.#numLive = 0;
  }
}

function pageSizeFor(meanLength: number): number {
  return Math.min(Math.max(1, Math.floor(MAX_BUFFERED / meanLength)), MAX_PAGE_SIZE);
}

/**
 * Events are numbered without a gap, so the log of an endless request was cut where it does not go on after `last`.
 *
 * @throws {PlatformError} `events_trimmed`, with the oldest event that is kept
 */
function checkKept(firstText: string | undefined, last: EventId | null): void {
  if (firstText === undefined) return;
  const first = toEventId(firstText);
  if (first.seq <= nextSeq(last)) return;
  const before = encodeEventId({ epoch: first.epoch, seq: first.seq - 1 });
  const message =
    `events ${nextSeq(last)} to ${first.seq - 1} are no longer kept; the oldest that is has the id ` +
    `${firstText}: ask with Last-Event-ID ${before} to read on from there`;
  throw new PlatformError('events_trimmed', message);
}

/** @throws {PlatformError} `protocol_mismatch` for what is none */
function toEventId(text: string): EventId {
  const id = parseEventId(text);
  if (id === null) throw new PlatformError('protocol_mismatch', `unreadable event id: ${text}`);
  return id;
}

/** Events are numbered from 0 on over all epochs. */
function nextSeq(last: EventId | null): number {
  return last === null ? 0 : last.seq + 1;
}

function isAfter(id: EventId, last: EventId | null): boolean {
  if (last === null) return true;
  return id.epoch > last.epoch || (id.epoch === last.epoch && id.seq > last.seq);
}
