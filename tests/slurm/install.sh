#!/bin/sh
# Install SLURM from the distribution's packages, or say in one line why that is not possible.
set -eu
refuse() {
    echo "error: make test-slurm $1" >&2
    exit 1
}
[ "$(id -u)" = 0 ] || refuse "starts daemons and links files in /etc/slurm: run it as root, best in a container"
PATH=$PATH:/usr/sbin:/sbin
for program in slurmctld slurmd munged; do
    command -v "$program" >/dev/null || missing=yes
done
[ "${missing:-no}" = yes ] || exit 0
command -v apt-get >/dev/null || refuse "needs slurmctld, slurmd and munged: install SLURM and MUNGE"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
{ apt-get -qq update && apt-get -qq install -y --no-install-recommends slurm-wlm munge; } >"$log" 2>&1 ||
    refuse "could not install slurm-wlm and munge: $(grep -m 1 '^E:' "$log" || tail -n 1 "$log")"
rm -f "$log"
