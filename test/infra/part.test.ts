import { describe, expect, it } from 'vitest';
import { toReadable } from '../../infra/part.ts';

describe('toReadable', () => {
  it('shows an event of the log as words, without time and level', () => {
    const line = '{"level":"info","time":"2026-01-01T00:00:00Z","event":"edge_ready","port":8787}';
    expect(toReadable(line)).toBe('edge_ready port=8787');
  });

  it('leaves other lines alone, broken JSON among them', () => {
    for (const line of ['hello', '{"event":', '{"level":30}']) expect(toReadable(line)).toBe(line);
  });
});
