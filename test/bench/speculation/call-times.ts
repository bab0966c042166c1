import type { ModelRunner } from '../../../worker/model/runner.ts';
import { type CallSize, createSampleCall } from '../../../worker/model/sample-call.ts';

/** Positions that the rows of a call have behind them. */
const NUM_FROZEN = 256;

export interface TimedCall extends CallSize {
  readonly runner: ModelRunner;
}

/**
 * Milliseconds of calls, without anything around them: round by round, each once, so that a noisy
 * machine is noisy for all of them.
 *
 * @returns [calls.length] of [numRounds]
 */
export async function callTimes(
  calls: readonly TimedCall[],
  numRounds: number,
): Promise<readonly (readonly number[])[]> {
  const timed = calls.map(({ runner, ...size }) => ({
    runner,
    input: createSampleCall(runner.shape, size, { numFrozen: NUM_FROZEN }),
    times: [] as number[],
  }));
  for (let round = -1; round < numRounds; round += 1) {
    for (const { runner, input, times } of timed) {
      const startMs = performance.now();
      await runner.run(input);
      if (round >= 0) times.push(performance.now() - startMs); // the first are slow
    }
  }
  return timed.map(({ times }) => times);
}
