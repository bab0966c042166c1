import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { BATCH_RUNNER } from '../../infra/batch-runner.ts';
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

describe('the runner of batches', () => {
  it('is started with the same options wherever it is started', () => {
    const read = (name: string) => readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8');
    const command = ['node', ...BATCH_RUNNER];
    expect(JSON.parse(read('package.json')).scripts.batches).toBe(command.join(' '));
    const quoted = command.map((word) => `"${word}"`).join(', ');
    expect(read('infra/compose.yaml')).toContain(`command: [${quoted}]`);
  });
});
