import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { MUTANTS } from './mutations/mutants.ts';

const root = join(import.meta.dirname, '..');

it.each(MUTANTS)('breaks what is there: $name', ({ patches }) => {
  for (const { file, search, replace } of patches) {
    const places = readFileSync(join(root, file), 'utf8').split(search).length - 1;
    expect({ file, search, places }).toEqual({ file, search, places: 1 });
    expect(replace).not.toBe(search);
  }
});
