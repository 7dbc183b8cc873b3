#!/bin/bash
# Any machine with an mpirun:  examples/cluster/mpirun.sh 4 examples/tfim_chain.toml
# Inside a batch script of Slurm ask for the signal at the script itself,
#   #SBATCH --signal=B:USR1@300
# and start this by exec: the signal then reaches mpirun, which hands it on.
n=$1
shift

# Two jobs beside one another would be bound to the same cores.  With a machine of your
# own and as many ranks as cores, "core" makes large steps a fifth faster.
export PRTE_MCA_hwloc_default_binding_policy=none
export OPENBLAS_NUM_THREADS=1
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1 # large pages; see docs/speed.md
if [ "$(id -u)" = 0 ]; then # in a container
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi

command=run
[ -d "$1" ] && command=resume
exec mpirun -n "$n" vmc "$command" "$@"
