import { PlatformError } from '../../shared/errors.ts';
import {
  decodeEvent,
  type EventId,
  isTerminal,
  type LoggedEvent,
  parseEventId,
} from '../../shared/protocol/event.ts';
import type { ChannelListener } from './subscriptions.ts';

export interface EventSource {
  /** The next entries of the log after `after`, as `[id, event]`; fewer than `PAGE_SIZE` at its end. */
  readLog(after: EventId | null): Promise<readonly (readonly [string, string])[]>;
  /** `gone` when the request is unknown or no longer kept. */
  stage(): Promise<'open' | 'ended' | 'gone'>;
}

export const PAGE_SIZE = 200;

/** What a client that reads slowly may leave unread here, in characters; beyond it the log keeps it. */
const MAX_BUFFERED = 256 * 1024;
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
  #numBuffered = 0;
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

  onMessage(message: string): void {
    if (this.#numBuffered + message.length > MAX_BUFFERED) {
      this.onGap();
      return;
    }
    this.#live.push(message);
    this.#numBuffered += message.length;
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
        for (const logged of page) {
          if (this.#signal.aborted) return;
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
      this.#numBuffered -= message.length;
      if (!isAfter(id, this.#last)) continue;
      this.#last = id;
      return { id, event: decodeEvent(message.slice(space + 1)) };
    }
  }

  async #nextPage(): Promise<LoggedEvent[]> {
    this.#mustReadLog = false; // before the reading: a gap from here on needs another one
    const entries = await this.#patiently(() => this.#source.readLog(this.#last));
    if (entries.length >= PAGE_SIZE) this.#mustReadLog = true;
    return entries.map(([text, payload]) => {
      const id = parseEventId(text);
      if (id === null) throw new PlatformError('protocol_mismatch', `unreadable event id: ${text}`);
      return { id, event: decodeEvent(payload) };
    });
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
    this.#numBuffered = 0;
  }
}

/** Events are numbered from 0 on over all epochs. */
function nextSeq(last: EventId | null): number {
  return last === null ? 0 : last.seq + 1;
}

function isAfter(id: EventId, last: EventId | null): boolean {
  if (last === null) return true;
  return id.epoch > last.epoch || (id.epoch === last.epoch && id.seq > last.seq);
}
