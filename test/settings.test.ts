import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import * as batches from '../edge/batches/config.ts';
import * as edge from '../edge/config.ts';
import * as board from '../edge/node-board.ts';
import * as worker from '../worker/config.ts';
import * as webhooks from '../worker/webhooks/config.ts';

const page = readFileSync(new URL('../docs/settings.md', import.meta.url), 'utf8');

const required = { REDIS_URL: 'redis://127.0.0.1', MODEL_DIR: '/models/m' };

/** Every schema that reads settings, with the headings under which its variables are described. */
const PARTS = [
  {
    schema: edge.environmentSchema.extend(board.environmentSchema.shape),
    at: ['The edge', 'On Node'],
  },
  { schema: edge.bindingsSchema, at: ['The edge', 'In workerd'] },
  { schema: worker.environmentSchema, at: ['Workers'] },
  { schema: webhooks.environmentSchema, at: ['Webhooks'] },
  { schema: batches.environmentSchema, at: ['Batches'] },
] as const;

/** Variables whose default is told in words: it depends on the machine or on another variable. */
const IN_WORDS = ['MODEL_NAME', 'NUM_THREADS', 'KV_CACHE_MIB', 'CACHE_DIR'];

/** Variable and default of each row under a heading. */
function rowsUnder(heading: string): [string, string][] {
  const section = page.split(/^#+ /m).find((text) => text.startsWith(`${heading}\n`)) ?? '';
  const rows = section.matchAll(/^\| `(\w+)` \| (.*?) ?\| .+ \|$/gm);
  return [...rows].map(([, name = '', value = '']) => [name, value]);
}

describe('docs/settings.md', () => {
  it.each(PARTS)('names every variable under $at, and no other', ({ schema, at }) => {
    const rows = at.flatMap(rowsUnder).map(([name]) => name);
    expect(rows.toSorted()).toEqual(Object.keys(schema.shape).toSorted());
  });

  it.each(PARTS)('has their defaults under $at', ({ schema, at }) => {
    const read = (environment: object) =>
      z.record(z.string(), z.unknown()).parse(schema.parse({ ...required, ...environment }));
    const defaults = read({});
    for (const [name, cell] of at.flatMap(rowsUnder)) {
      if (IN_WORDS.includes(name) || name in required) continue;
      const given = cell === '' ? {} : { [name]: cell.replaceAll('`', '') };
      expect([name, read(given)[name]]).toEqual([name, defaults[name]]);
      const isNone = defaults[name] === undefined || defaults[name] instanceof Map;
      expect([name, cell === '']).toEqual([name, isNone]);
    }
  });

  it('marks what is required', () => {
    for (const { schema, at } of PARTS) {
      const missing = schema.safeParse({}).error?.issues.map(({ path }) => path[0]);
      const marked = at
        .flatMap(rowsUnder)
        .map(([name]) => name)
        .filter((name) => new RegExp(`^\\| \`${name}\` \\|.* Required`, 'm').test(page));
      expect(marked.toSorted()).toEqual(missing?.toSorted());
    }
  });
});
