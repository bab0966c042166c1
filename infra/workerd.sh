#!/bin/sh
# Stands for the program WORKERD, which ends when its parent was killed and could not stop it.
(
  while kill -0 "$PPID" && kill -0 "$$"; do sleep 1; done
  kill -9 "$$"
) </dev/null >/dev/null 2>&1 3>&- &
exec "$WORKERD" "$@"
