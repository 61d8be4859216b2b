#!/usr/bin/env bash
# Build .venv with the whole stack, in the one order that works. Called by `make install`; safe to run again.
#   PYTHON=python3.12 tools/install.sh     another interpreter (3.11 and 3.12 are supported)
#   FORCE_CUDA=1 | FORCE_CUDA=0            build, or do not build, mmcv's CUDA ops, whatever was found
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "install: $*" >&2; exit 1; }
say() { echo "install: $*"; }

# -- refuse early, in one line
python=${PYTHON:-}
if [ -z "$python" ]; then
  for candidate in python3.11 python3.12 python3; do
    if command -v "$candidate" >/dev/null && "$candidate" -c '' 2>/dev/null; then python=$candidate; break; fi
  done
fi
[ -n "$python" ] || fail "no Python found; install Python 3.11 or 3.12, or set PYTHON=/path/to/python3.11"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || fail "$python does not run; set PYTHON=/path/to/python3.11"
case $version in 3.11 | 3.12) ;; *) fail "Python $version ($python) is not supported; install 3.11 or 3.12, or set PYTHON=/path/to/python3.11" ;; esac
"$python" -c 'import venv, ensurepip' 2>/dev/null || fail "$python has no venv module; install it (Debian, Ubuntu: apt install python$version-venv)"
for tool in gcc g++; do command -v $tool >/dev/null || fail "no $tool, which mmcv-full is compiled with; install it (Debian, Ubuntu: apt install build-essential)"; done
header=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')/Python.h
[ -f "$header" ] || fail "no Python headers ($header); install them (Debian, Ubuntu: apt install python$version-dev)"
free=$(($(df -Pk . | awk 'NR==2 {print $4}') / 1048576))
need=12  # 6 GB of packages once unpacked, their downloads, and room to build
[ -d .venv/lib ] && need=3
need=${NEED_GB:-$need}
[ "$free" -ge "$need" ] || fail "$free GB free here, $need GB needed; free some, or clone onto another disk"

# -- CUDA ops only where they can be built and used
cuda=${FORCE_CUDA:-}
if [ -z "$cuda" ]; then
  cuda=0
  if command -v nvcc >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then cuda=1; fi
fi

[ -x .venv/bin/python ] || "$python" -m venv .venv
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }
install() { pip install --quiet --constraint requirements.txt "$@"; }

say "Python $version, $free GB free; build tools"
install setuptools wheel ninja
say "torch and what mmcv-full must find (several GB the first time)"
install torch torchvision numpy opencv-python-headless
if ! .venv/bin/python -c 'import mmcv._ext' 2>/dev/null; then
  if [ "$cuda" = 1 ]; then
    say "mmcv-full with CUDA ops: nvcc and a GPU are here (compiling, 15 minutes or so)"
    include=$(.venv/bin/python -c 'import sysconfig, glob; print(":".join(glob.glob(sysconfig.get_paths()["purelib"] + "/nvidia/cu13/include")))')
    # --no-cache-dir: a wheel that pip kept from a build without CUDA would be taken instead
    CPATH="$include${CPATH:+:$CPATH}" FORCE_CUDA=1 MMCV_WITH_OPS=1 MAX_JOBS=${MAX_JOBS:-$(nproc)} \
      install --no-build-isolation --no-cache-dir mmcv-full
  else
    say "mmcv-full with CPU ops: nvcc with a GPU was not found (compiling, 7 minutes on two cores, once: pip keeps the wheel)"
    FORCE_CUDA=0 MMCV_WITH_OPS=1 MAX_JOBS=${MAX_JOBS:-$(nproc)} CUDA_VISIBLE_DEVICES="" install --no-build-isolation mmcv-full
  fi
fi
say "mmdet, mmrotate and the rest"
install --no-build-isolation --requirement requirements.txt
install --no-build-isolation --no-deps --editable .
.venv/bin/python tools/doctor.py --quiet
touch .venv/.installed
say "done; .venv is ready"
