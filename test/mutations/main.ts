import { MUTANTS } from './mutants.ts';
import { Workspace } from './workspace.ts';

/** For all tests on the sources as they are, however busy the machine is. */
const MAX_UNBROKEN_MS = 600_000;

/**
 * `npm run mutations`: breaks verifiers, caches, drafters, samplers, webhooks and accounts one way
 * after the other, in a copy of the sources, and says which of them the tests catch. Fails when one
 * survives.
 */
const startMs = performance.now();
using workspace = new Workspace();

const tests = [...new Set(MUTANTS.flatMap((mutant) => mutant.tests))];
const unbroken = workspace.run(tests, MAX_UNBROKEN_MS);
if (unbroken.type !== 'passed') {
  throw new Error(`the sources fail before they are broken: ${JSON.stringify(unbroken)}`);
}
console.log(`${unbroken.numTests} tests pass on the sources as they are\n`);
// A mutant runs a part of these tests; one that takes twice as long never comes to an end.
const limitMs = Math.ceil(2 * (performance.now() - startMs));

const survived: string[] = [];
for (const mutant of MUTANTS) {
  const run = workspace.runMutant(mutant, limitMs);
  if (run.type === 'invalid') throw new Error(`${mutant.name}: ${run.message}`);
  const isCaught = run.type === 'failed';
  if (!isCaught) survived.push(mutant.name);
  console.log(`${isCaught ? 'caught  ' : 'SURVIVED'}  ${mutant.name}`);
  if (isCaught) console.log(`          by: ${run.firstFailure}`);
}

const seconds = ((performance.now() - startMs) / 1000).toFixed(0);
console.log(`\n${MUTANTS.length - survived.length} of ${MUTANTS.length} caught in ${seconds} s`);
const caught = MUTANTS.length - survived.length;
console.log(JSON.stringify({ mutants: MUTANTS.length, caught, survived }));
process.exitCode = survived.length === 0 ? 0 : 1;
