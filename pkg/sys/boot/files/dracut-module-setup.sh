#!/bin/bash
# Written by `relkit boot --install`: relkit-boot(1), dracut.modules(7).

check() {
    return 0
}

install() {
    # shellcheck disable=SC2154 # dracut's
    inst_hook pre-pivot 80 "$moddir/relkit-boot.sh"
}
