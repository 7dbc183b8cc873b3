#!/bin/bash
# CPU nodes under Slurm: one rank per socket, all its cores.  Submit it with
#   sbatch examples/cluster/slurm_cpu.sh examples/tfim_chain.toml
# and again with the run directory instead of the job file to go on by hand.
#SBATCH --job-name=vmc
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=2
#SBATCH --cpus-per-task=16
#SBATCH --time=12:00:00
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append

export OPENBLAS_NUM_THREADS=1
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1 # large pages; see docs/speed.md
# The name of the run belongs to the job, so that a requeued job finds it again.
run=runs/slurm-$SLURM_JOB_ID
if [ -d "$run" ] && ! compgen -G "$run/checkpoint-*.h5" >/dev/null; then
    # The node was lost before the first checkpoint: begin again.
    mv "$run" "$run.lost-${SLURM_RESTART_COUNT:-0}"
fi
if [ -d "$run" ]; then
    set -- resume "$run"
elif [ -d "$1" ]; then
    set -- resume "$1"
else
    set -- run "$1" --out "$run"
fi
# No MPI is needed: JAX finds the ranks of a Slurm step.  -K ends all if one dies.
# Since 22.05 srun knows of --cpus-per-task only what it is told itself.
srun -K --mpi=none --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --cpu-bind=cores vmc "$@"
code=$?
# 75: stopped in time and saved.
if [ $code -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit $code
