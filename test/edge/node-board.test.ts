import { describe, expect, it } from 'vitest';
import { loadBoardConfig } from '../../edge/node-board.ts';

const OPERATOR_KEY = '0123456789abcdef';

describe('loadBoardConfig', () => {
  it('has no board without a key, whatever its path', () => {
    expect(loadBoardConfig({})).toBeNull();
    expect(loadBoardConfig({ BULL_BOARD_PATH: '/queues' })).toBeNull();
  });

  it('has it where it is told to', () => {
    expect(loadBoardConfig({ OPERATOR_KEY })).toEqual({
      path: '/operator/queues',
      operatorKey: OPERATOR_KEY,
    });
    expect(loadBoardConfig({ OPERATOR_KEY, BULL_BOARD_PATH: '/a/b-c' })?.path).toBe('/a/b-c');
  });

  it.each([
    ['OPERATOR_KEY', 'too short'],
    ['OPERATOR_KEY', ''],
    ['BULL_BOARD_PATH', 'queues'],
    ['BULL_BOARD_PATH', '/queues/'],
    ['BULL_BOARD_PATH', '/*'],
  ])('names %s when it is %j', (name, value) => {
    expect(() => loadBoardConfig({ OPERATOR_KEY, [name]: value })).toThrow(name);
  });
});
