import { expect, it } from 'vitest';
import { MachineSpeed } from '../../../worker/speculative/call-costs.ts';
import { TargetCosts } from '../../../worker/speculative/target-costs.ts';

const call = { numRows: 2, numNewTokens: 1, frozenCapacity: 64 };

it('knows calls of each capacity by themselves, and guesses others from the nearest', () => {
  const costs = new TargetCosts(new MachineSpeed());
  expect(costs.estimate(call)).toBeNull();

  for (let i = 0; i < 10; i += 1) {
    costs.observe({ ...call, ms: 10 });
    costs.observe({ ...call, frozenCapacity: 1024, ms: 40 });
  }
  expect(costs.knows(call)).toBe(true);
  expect(costs.knows({ ...call, frozenCapacity: 1024 })).toBe(true);
  expect(costs.knows({ ...call, frozenCapacity: 512 })).toBe(false);
  expect(costs.knows({ ...call, numNewTokens: 2 })).toBe(false);
  // Within a tenth, as what was not called often is thought a little cheaper.
  expect(costs.estimate(call)! / 10).toBeCloseTo(0.95, 1);
  expect(costs.estimate({ ...call, frozenCapacity: 512 })! / 40).toBeCloseTo(0.95, 1);
});
