import { PlatformError } from '../../shared/errors.ts';
import { IDLE, IdleClock } from '../../shared/idle-clock.ts';
import {
  decodeEvent,
  type EventId,
  encodeEventId,
  eventLost,
  isLater,
  isRewritten,
  isTerminal,
  type LoggedEvent,
  parseEventId,
} from '../../shared/protocol/event.ts';
import { GivenEvents } from './given-events.ts';
import { patiently } from './patience.ts';
import type { ChannelListener } from './subscriptions.ts';

export interface EventSource {
  /** The next entries of the log after `after`, as `[id, event]`; fewer than `count` at its end. */
  readLog(after: EventId | null, count: number): Promise<readonly (readonly [string, string])[]>;
  /** `gone` when the request is unknown or no longer kept. */
  stage(): Promise<'open' | 'ended' | 'gone'>;
}

/**
 * What a client that reads slowly may leave unread here, in characters; beyond it the log keeps it.
 */
export const MAX_BUFFERED = 256 * 1024;
/**
 * Entries of the log that are read at once: as many as the buffer would hold, by the size of those
 * before.
 */
export const MAX_PAGE_SIZE = 200;
export const FIRST_PAGE_SIZE = 20;
/** After this long without news the log is read again: the message may have been lost. */
const IDLE_MS = 5000;

/**
 * One reader's way through a request's events: messages as long as they follow each other without a
 * gap, and the log wherever they do not. Pub/sub is only the fast path; the log is the truth.
 */
export class EventReader implements ChannelListener {
  readonly #source: EventSource;
  readonly #signal: AbortSignal;
  readonly #given = new GivenEvents();
  /** Whether the events up to a first one were given by another reader. */
  readonly #isResumed: boolean;
  #last: EventId | null;
  #mustReadLog: boolean;
  #hasEnded = false;
  #live: string[] = [];
  #numLive = 0;
  /** Entries of the log that were read and not yet given. */
  #page: (readonly [string, string])[] = [];
  #numPaged = 0;
  #pageSize = FIRST_PAGE_SIZE;
  #wake: () => void = () => undefined;
  readonly #clock = new IdleClock(IDLE_MS);

  /** @param hasPast whether there may be events before the subscription was acknowledged */
  constructor(
    source: EventSource,
    { after, hasPast }: { readonly after: EventId | null; readonly hasPast: boolean },
    signal: AbortSignal,
  ) {
    this.#source = source;
    this.#isResumed = after !== null;
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

  /**
   * Past the last event it was given; ends after the terminal one, or with the signal.
   *
   * @param onOver called at the end
   */
  async *read(onOver = (): void => undefined): AsyncGenerator<LoggedEvent, void, undefined> {
    const wake = () => this.#wake();
    this.#signal.addEventListener('abort', wake);
    try {
      while (!this.#signal.aborted) {
        const logged = this.#nextPaged() ?? this.#nextLive();
        if (logged !== null) {
          yield logged;
          if (isTerminal(logged.event)) return;
        } else if (this.#mustReadLog) {
          await this.#readPage();
          if (this.#page.length === 0 && this.#hasEnded) return;
        } else if ((await this.#news()) === IDLE) await this.#checkLog();
      }
    } finally {
      this.#signal.removeEventListener('abort', wake);
      this.#clock.stop();
      onOver();
    }
  }

  /** @returns `null` when there is none, or the next one does not follow the last */
  #nextLive(): LoggedEvent | null {
    for (;;) {
      const message = this.#live[0];
      if (message === undefined || this.#mustReadLog) return null;
      const space = message.indexOf(' ');
      const id = parseEventId(message.slice(0, space));
      if (id === null || !this.#isNext(id)) {
        this.onGap(); // what was dropped here is in the log: it was written before it was published
        return null;
      }
      this.#live.shift();
      this.#numLive -= message.length;
      if (!isLater(id, this.#last)) continue;
      const logged = this.#take(id, message.slice(space + 1));
      if (logged !== null) return logged;
    }
  }

  /** Of another claim's first event the log has to say whether it follows what was given. */
  #isNext({ epoch, seq }: EventId): boolean {
    return seq <= nextSeq(this.#last) && (this.#last === null || epoch <= this.#last.epoch);
  }

  #nextPaged(): LoggedEvent | null {
    for (;;) {
      const entry = this.#page.shift();
      if (entry === undefined) return null;
      const [text, payload] = entry;
      this.#numPaged -= payload.length;
      const logged = this.#take(toEventId(text), payload);
      if (logged !== null) return logged;
    }
  }

  /** @returns what of the event was not given yet; `null` for nothing */
  #take(id: EventId, payload: string): LoggedEvent | null {
    this.#last = id;
    const event = this.#given.take(decodeEvent(payload));
    return event && { id, event };
  }

  async #readPage(): Promise<void> {
    this.#mustReadLog = false; // before the reading: a gap from here on needs another one
    const entries = await this.#patiently(() => this.#source.readLog(this.#last, this.#pageSize));
    if (await this.#isLastLost(entries[0]?.[0])) return this.#startAgain();
    checkKept(entries[0]?.[0], this.#last);
    if (entries.length >= this.#pageSize) this.#mustReadLog = true;
    this.#page = [...entries];
    this.#numPaged = entries.reduce((sum, [, payload]) => sum + payload.length, 0);
    if (entries.length > 0) this.#pageSize = pageSizeFor(this.#numPaged / entries.length);
  }

  /** Whether Redis has lost the last event that was read, which another claim then wrote again. */
  async #isLastLost(nextText: string | undefined): Promise<boolean> {
    const last = this.#last;
    if (last === null || nextText === undefined) return false;
    if (toEventId(nextText).epoch === last.epoch) return false;
    const before = last.seq === 0 ? null : { epoch: last.epoch, seq: last.seq - 1 };
    const [entry] = await this.#patiently(() => this.#source.readLog(before, 1));
    return entry !== undefined && isRewritten(toEventId(entry[0]), last);
  }

  /**
   * Reads the log from its beginning, and passes over what was given.
   *
   * @throws {PlatformError} `events_trimmed` when that is not known: it was given elsewhere
   */
  #startAgain(): void {
    if (this.#isResumed && this.#last !== null) throw eventLost(this.#last);
    this.#last = null;
    this.#mustReadLog = true;
    this.#given.startAgain();
  }

  async #checkLog(): Promise<void> {
    const stage = await this.#patiently(() => this.#source.stage());
    if (stage === 'gone') throw new PlatformError('worker_lost', 'the request is no longer kept');
    if (stage === 'ended') this.onEnded();
    else this.#mustReadLog = true;
  }

  /** Resolves at the next message, gap or abort, or with `IDLE` after a while without. */
  #news(): Promise<unknown> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    return this.#clock.orIdle(promise);
  }

  /** A stream that has begun waits for Redis to come back. */
  #patiently<T>(call: () => Promise<T>): Promise<T> {
    return patiently(call, this.#signal);
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
 * Events are numbered without a gap, so the log of an endless request was cut where it does not go
 * on after `last`.
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
