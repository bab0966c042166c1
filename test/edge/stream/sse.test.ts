import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { createSseBody } from '../../../edge/stream/sse.ts';

const quiet = { heartbeatMs: 60_000, onDisconnect: () => {}, onEnd: () => {} };

async function* count(pulled: number[], end: number): AsyncGenerator<string> {
  for (let i = 0; i < end; i += 1) {
    pulled.push(i);
    yield `data: ${i}\n\n`;
  }
}

const textOf = (chunk: { value?: Uint8Array | undefined }) => new TextDecoder().decode(chunk.value);

describe('createSseBody', () => {
  it('asks for a frame only when the client reads one', async () => {
    const pulled: number[] = [];
    const reader = createSseBody(count(pulled, 100), quiet).getReader();
    expect(pulled).toEqual([]);

    expect(textOf(await reader.read())).toBe('data: 0\n\n');
    expect(textOf(await reader.read())).toBe('data: 1\n\n');
    await setImmediate(); // all that could run ahead has
    expect(pulled).toEqual([0, 1]);
  });

  it('beats while it waits, and loses no frame over it', async () => {
    const frame = Promise.withResolvers<IteratorResult<string>>();
    let numAsked = 0;
    const frames = {
      next: () => {
        numAsked += 1;
        return frame.promise;
      },
    };
    const reader = createSseBody(frames, { ...quiet, heartbeatMs: 1 }).getReader();

    expect(textOf(await reader.read())).toBe(': heartbeat\n\n');
    expect(textOf(await reader.read())).toBe(': heartbeat\n\n');
    frame.resolve({ value: 'data: late\n\n' });
    let text = '';
    while (!text.startsWith('data')) text = textOf(await reader.read());
    expect(text).toBe('data: late\n\n');
    expect(numAsked).toBe(1);
  });

  it('tells of a client that leaves, and of an end, but never of both', async () => {
    const told: string[] = [];
    const options = {
      ...quiet,
      onDisconnect: () => void told.push('left'),
      onEnd: () => void told.push('end'),
    };
    const leaving = createSseBody(count([], 3), options).getReader();
    await leaving.read();
    await leaving.cancel();
    expect(told).toEqual(['left']);

    const staying = createSseBody(count([], 1), options).getReader();
    while (!(await staying.read()).done);
    await staying.cancel();
    expect(told).toEqual(['left', 'end']);
  });
});
