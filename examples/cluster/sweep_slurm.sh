#!/bin/bash
# A sweep as an array under Slurm, one task per point.  Write the points first, then
# submit them with their numbers, and collect the results in the end:
#   vmc sweep job.toml --grid hamiltonian.h=0.5:1.5:0.1 --out sweeps/tfim --prepare
#   sbatch --array=0-10 examples/cluster/sweep_slurm.sh sweeps/tfim
#   vmc sweep sweeps/tfim --table
# Points of a --chain need their neighbours: --array=0-10%1 runs one at a time.
#SBATCH --job-name=sweep
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --time=04:00:00
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append

# More --ntasks make every point one run of several ranks.  Since 22.05 srun knows of
# --cpus-per-task only what it is told itself.
srun -K --mpi=none --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" vmc sweep "$1" --array
code=$?
# 75: stopped in time and saved; the same task goes on from its checkpoint.
if [ $code -eq 75 ]; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
    exit 0
fi
exit $code
