import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  EventReader,
  type EventSource,
  MAX_BUFFERED,
  MAX_PAGE_SIZE,
} from '../../../edge/transport/event-reader.ts';
import { PlatformError } from '../../../shared/errors.ts';
import {
  type EventId,
  encodeEvent,
  isLater,
  parseEventId,
  type RequestEvent,
} from '../../../shared/protocol/event.ts';

function textEvent(text: string): RequestEvent {
  return { type: 'tokens', choice: 0, tokenIds: [1], text, logprobs: null, finishReason: null };
}

const over: RequestEvent = { type: 'error', code: 'internal', message: 'over', param: null };

/** A log in memory, with a count of its readings. */
class Log implements EventSource {
  readonly entries: [string, string][] = [];
  current: 'open' | 'ended' | 'gone' = 'open';
  numReadings = 0;
  failures: Error[] = [];

  /** Loses the last events, as Redis may in a failover. */
  lose(count: number): void {
    this.entries.splice(this.entries.length - count);
  }

  /** @returns the message that is published for it */
  add(event: RequestEvent, epoch = 1): string {
    const entry: [string, string] = [`${epoch}-${this.entries.length}`, encodeEvent(event)];
    this.entries.push(entry);
    return entry.join(' ');
  }

  async readLog(after: EventId | null, count: number) {
    this.numReadings += 1;
    const failure = this.failures.shift();
    if (failure !== undefined) throw failure;
    const later = this.entries.filter(([id]) => isLater(parseEventId(id)!, after));
    return later.slice(0, count);
  }

  async stage() {
    return this.current;
  }
}

function readerOf(log: Log, hasPast = false, signal = new AbortController().signal) {
  return new EventReader(log, { after: null, hasPast }, signal);
}

async function textOf(reader: EventReader): Promise<string> {
  let text = '';
  for await (const { event } of reader.read()) if (event.type === 'tokens') text += event.text;
  return text;
}

describe('EventReader', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it('does without the log while messages follow each other', async () => {
    const log = new Log();
    const reader = readerOf(log);
    for (const text of ['a', 'b']) reader.onMessage(log.add(textEvent(text)));
    reader.onMessage(log.add(over));

    expect(await textOf(reader)).toBe('ab');
    expect(log.numReadings).toBe(0);
  });

  it('reads the log once for what was there before it listened', async () => {
    const log = new Log();
    log.add(textEvent('a'));
    const reader = readerOf(log, true);
    reader.onMessage(log.add(textEvent('b')));
    reader.onMessage(log.add(over));

    expect(await textOf(reader)).toBe('ab');
    expect(log.numReadings).toBe(1);
  });

  it('fills a gap from the log, and passes over messages that come again', async () => {
    const log = new Log();
    const reader = readerOf(log);
    const first = log.add(textEvent('a'));
    log.add(textEvent('b'));
    for (const message of [first, first, log.add(textEvent('c'), 2), first, log.add(over, 2)]) {
      reader.onMessage(message);
    }

    expect(await textOf(reader)).toBe('abc');
    expect(log.numReadings).toBe(1);
  });

  it('keeps no more than its buffer holds, and reads the rest from the log', async () => {
    const log = new Log();
    const reader = readerOf(log);
    const texts = Array.from({ length: 50 }, (_, i) => `${i} `.repeat(5000));
    for (const text of texts) reader.onMessage(log.add(textEvent(text)));
    reader.onMessage(log.add(over));

    expect(await textOf(reader)).toBe(texts.join(''));
    expect(log.numReadings).toBeGreaterThan(0);
  });

  it('never has more in its hands than its buffer and a page, whoever reads how slowly', async () => {
    const log = new Log();
    const texts = Array.from({ length: 400 }, (_, i) => `${i} `.padEnd(20_000, '.'));
    const messages = texts.map((text) => log.add(textEvent(text)));
    messages.push(log.add(over));
    const reader = readerOf(log);
    let maxBuffered = 0;
    const hear = (count: number) => {
      for (const message of messages.splice(0, count)) {
        reader.onMessage(message);
        maxBuffered = Math.max(maxBuffered, reader.numBuffered);
      }
    };

    hear(5);
    const read: string[] = [];
    for await (const { event } of reader.read()) {
      if (event.type === 'tokens') read.push(event.text);
      hear(10); // ten come while one is read
      maxBuffered = Math.max(maxBuffered, reader.numBuffered);
    }

    expect(read.join('')).toBe(texts.join(''));
    expect(maxBuffered).toBeGreaterThan(MAX_BUFFERED / 2);
    expect(maxBuffered).toBeLessThan(3 * MAX_BUFFERED);
  });

  it('reads a long log page by page', async () => {
    const log = new Log();
    for (let i = 0; i < 3 * MAX_PAGE_SIZE; i += 1) log.add(textEvent('.'));
    log.add(over);

    expect(await textOf(readerOf(log, true))).toBe('.'.repeat(3 * MAX_PAGE_SIZE));
    expect(log.numReadings).toBe(4); // the first one, and three full ones
  });

  it('looks into the log when it has heard nothing for a while', async () => {
    const log = new Log();
    const reading = textOf(readerOf(log));
    await vi.advanceTimersByTimeAsync(10);
    log.add(textEvent('a'));
    log.add(over);

    await vi.advanceTimersByTimeAsync(5000);
    expect(await reading).toBe('a');
  });

  it('ends where the log has ended, though it was asked for what comes after', async () => {
    const log = new Log();
    log.add(over);
    const from = { after: { epoch: 1, seq: 0 }, hasPast: true };
    const reader = new EventReader(log, from, new AbortController().signal);
    reader.onEnded();

    expect(await textOf(reader)).toBe('');
  });

  it('fails when the request is gone', async () => {
    const log = new Log();
    log.current = 'gone';
    const reading = textOf(readerOf(log));
    const failed = expect(reading).rejects.toMatchObject({ code: 'worker_lost' });
    await vi.advanceTimersByTimeAsync(5000);
    await failed;
  });

  it('waits for a Redis that is away, but not for ever', async () => {
    const outage = () => new PlatformError('unavailable', 'away');
    const log = new Log();
    log.add(over);
    log.failures = [outage(), outage()];
    const reading = textOf(readerOf(log, true));
    await vi.advanceTimersByTimeAsync(1000);
    expect(await reading).toBe('');

    log.failures = Array.from({ length: 1000 }, outage);
    const hopeless = expect(textOf(readerOf(log, true))).rejects.toThrow('away');
    await vi.advanceTimersByTimeAsync(61_000);
    await hopeless;
  });

  describe.each([
    ['hears of', true],
    ['does not hear of', false],
  ])('when Redis has lost events, which it %s as they are written again', (_, isHeard) => {
    it('gives nothing twice, and nothing less', async () => {
      const log = new Log();
      const reader = readerOf(log);
      const reading = textOf(reader);
      for (const text of ['a', 'b', 'c', 'd']) reader.onMessage(log.add(textEvent(text)));
      await vi.advanceTimersByTimeAsync(10);
      log.lose(3);
      const bcd = { ...textEvent('bcd'), tokenIds: [1, 1, 1] };
      const messages = [bcd, textEvent('e'), textEvent('f'), textEvent('g')].map((event) =>
        log.add(event, 2),
      );
      for (const message of isHeard ? messages : messages.slice(3)) reader.onMessage(message);
      reader.onMessage(log.add(over, 2));

      expect(await reading).toBe('abcdefg');
    });

    it('says so to one who goes on after what was lost', async () => {
      const log = new Log();
      for (const text of ['a', 'b', 'c', 'd']) log.add(textEvent(text));
      const from = { after: { epoch: 1, seq: 2 }, hasPast: true };
      const reader = new EventReader(log, from, new AbortController().signal);
      log.lose(2);
      const messages = [textEvent('c'), textEvent('d'), over].map((event) => log.add(event, 2));
      for (const message of isHeard ? messages : []) reader.onMessage(message);

      await expect(textOf(reader)).rejects.toMatchObject({
        code: 'events_trimmed',
        message: expect.stringContaining('lost event 1-2'),
      });
    });
  });

  it('stops when it is told to, in the middle of waiting', async () => {
    const leaving = new AbortController();
    const log = new Log();
    const reading = textOf(readerOf(log, false, leaving.signal));
    await vi.advanceTimersByTimeAsync(10);
    leaving.abort();
    expect(await reading).toBe('');
    expect(vi.getTimerCount()).toBe(0);
  });
});
