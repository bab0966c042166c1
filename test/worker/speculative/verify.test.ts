import { describe, expect, it } from 'vitest';
import { sample } from '../../../worker/sampling/sample.ts';
import { type Target, verify } from '../../../worker/speculative/verify.ts';

/** A target that chooses these tokens, one after the other, and ends with the last. */
function targetOf(choices: readonly number[], taken: number[]): Target {
  return {
    next(i) {
      expect(i).toBe(taken.length); // logits are asked for in order, each once
      taken.push(choices[i]!);
      return choices[i]!;
    },
    get isOver() {
      return taken.length === choices.length;
    },
  };
}

function verified(drafted: readonly number[], choices: readonly number[]) {
  const taken: number[] = [];
  return { numAccepted: verify(drafted, targetOf([...choices, 0], taken)), taken };
}

describe('verify', () => {
  it('accepts the whole draft and takes a bonus token when the target agrees', () => {
    expect(verified([5, 8], [5, 8, 3])).toEqual({ numAccepted: 2, taken: [5, 8, 3] });
  });

  it('stops at the first disagreement and takes the recovered token', () => {
    expect(verified([5, 8, 2], [5, 8, 9])).toEqual({ numAccepted: 2, taken: [5, 8, 9] });
    expect(verified([5, 8, 2], [4, 8, 2])).toEqual({ numAccepted: 0, taken: [4] });
  });

  it('takes one token when there is no draft', () => {
    expect(verified([], [7])).toEqual({ numAccepted: 0, taken: [7] });
  });

  it('takes nothing behind the token that ends the sequence, drafted right or not', () => {
    const end = (drafted: readonly number[]) => {
      const taken: number[] = [];
      return { numAccepted: verify(drafted, targetOf([5, 8], taken)), taken };
    };
    expect(end([5, 8, 2])).toEqual({ numAccepted: 2, taken: [5, 8] });
    expect(end([5, 8])).toEqual({ numAccepted: 2, taken: [5, 8] });
    expect(end([5, 7, 2])).toEqual({ numAccepted: 1, taken: [5, 8] });
  });

  it.each([0, 0.7, 1.3])(
    'gives the target text at temperature %d whoever drafts',
    (temperature) => {
      const target = (position: number) => {
        const logits = Float32Array.from({ length: 8 }, (_, i) => Math.sin(i * 3 + position));
        return sample(logits, temperature, { seed: 7, position });
      };
      const plain = Array.from({ length: 50 }, (_, position) => target(position));

      for (const drafter of [() => 0, (position: number) => position % 8, target]) {
        const output: number[] = [];
        while (output.length < 50) {
          const start = output.length;
          const drafted = [0, 1, 2].map((i) => drafter(start + i));
          const numAccepted = verify(drafted, {
            next(i) {
              output.push(target(start + i));
              return output.at(-1)!;
            },
            isOver: false,
          });
          expect(output).toHaveLength(start + numAccepted + 1);
        }
        expect(output.slice(0, 50)).toEqual(plain);
      }
    },
  );
});
