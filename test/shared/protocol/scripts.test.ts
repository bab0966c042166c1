import { globSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';

const scriptSchema = z.object({ name: z.string(), lua: z.string() });

/** By the name under which each is exported. */
async function scriptNames(): Promise<Map<string, string>> {
  const names = new Map<string, string>();
  for (const file of globSync('shared/protocol/*scripts.ts')) {
    for (const [constant, value] of Object.entries(await import(resolve(file)))) {
      const script = scriptSchema.safeParse(value);
      if (script.success) names.set(constant, script.data.name);
    }
  }
  return names;
}

function sourcesOf(pattern: string): string {
  return globSync(pattern)
    .map((file) => readFileSync(file, 'utf8'))
    .join('\n');
}

describe('Lua scripts', () => {
  it('are run by the tests of scripts, each of them, by its constant or by its typed call', async () => {
    const tests = sourcesOf('test/integration/scripts-*.test.ts');
    const names = await scriptNames();
    expect(names.size).toBeGreaterThan(30);
    const untested = [...names].filter(([constant, name]) => {
      const call = new RegExp(
        `\\(\\s*(\\d+,\\s*)?${constant}\\b|scripts\\.${name}\\(|\\)\\.${name}\\(`,
      );
      return !call.test(tests);
    });
    expect(untested).toEqual([]);
  });

  it('have names of their own', async () => {
    const names = [...(await scriptNames()).values()];
    expect(new Set(names).size).toBe(names.length);
  });

  it('are all told of where a request goes from state to state', async () => {
    const page = readFileSync('docs/request.md', 'utf8');
    const rows = [...page.matchAll(/^\|[^|]+\| `(\w+)` \|/gm)].map(([, name]) => name);
    const claims = await import('../../../shared/protocol/claim-scripts.ts');
    const others = await import('../../../shared/protocol/scripts.ts');
    const transitions = [...Object.values(claims), ...Object.values(others)]
      .map((value) => scriptSchema.safeParse(value).data?.name)
      .filter((name) => name !== undefined);
    expect(transitions).toHaveLength(9);
    expect(new Set(rows)).toEqual(new Set([...transitions, 'forget']));
  });

  it('are in no other room', () => {
    expect(sourcesOf('{edge,worker}/**/*.ts')).not.toContain('redis.call(');
  });
});
