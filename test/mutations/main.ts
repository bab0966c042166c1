import { CACHES } from './caches.ts';
import { DRAFTERS } from './drafters.ts';
import { SAMPLERS } from './samplers.ts';
import { SINKS } from './sinks.ts';
import { VERIFIERS } from './verifiers.ts';
import { WEBHOOKS } from './webhooks.ts';
import { Workspace } from './workspace.ts';

/**
 * `npm run mutations`: breaks verifiers, caches, drafters, samplers and webhooks one way after the other, in a copy of the
 * sources, and says which of them the tests catch. Fails when one survives.
 */
const mutants = [...VERIFIERS, ...CACHES, ...SINKS, ...DRAFTERS, ...SAMPLERS, ...WEBHOOKS];
const startMs = performance.now();
using workspace = new Workspace();

const tests = [...new Set(mutants.flatMap((mutant) => mutant.tests))];
const unbroken = workspace.run(tests);
if (unbroken.type !== 'passed') {
  throw new Error(`the sources fail before they are broken: ${JSON.stringify(unbroken)}`);
}
console.log(`${unbroken.numTests} tests pass on the sources as they are\n`);

const survived: string[] = [];
for (const mutant of mutants) {
  const run = workspace.runMutant(mutant);
  if (run.type === 'invalid') throw new Error(`${mutant.name}: ${run.message}`);
  const isCaught = run.type === 'failed';
  if (!isCaught) survived.push(mutant.name);
  console.log(`${isCaught ? 'caught  ' : 'SURVIVED'}  ${mutant.name}`);
  if (isCaught) console.log(`          by: ${run.firstFailure}`);
}

const seconds = ((performance.now() - startMs) / 1000).toFixed(0);
console.log(`\n${mutants.length - survived.length} of ${mutants.length} caught in ${seconds} s`);
const caught = mutants.length - survived.length;
console.log(JSON.stringify({ mutants: mutants.length, caught, survived }));
process.exitCode = survived.length === 0 ? 0 : 1;
