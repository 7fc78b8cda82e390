#!/bin/sh
# Written by `relkit boot --install`: relkit-boot(1). Runs relkit, as it lies on
# the root file system, before anything else of that file system runs. Whatever
# it says, the machine goes on booting.
if [ -x "$NEWROOT"@STATE@/boot/relkit ]; then
    "$NEWROOT"@STATE@/boot/relkit boot --run --root "$NEWROOT" --state "$NEWROOT"@STATE@ </dev/null >/dev/console 2>&1 || :
fi
