#!/usr/bin/env bash
# Check the GPU of a machine that has torch but no network (and no mmcv), from wheels that are carried there.
#   tools/gpu_machine.sh pack WHEELS MMCV.whl     here: put into the folder WHEELS what that machine lacks; MMCV.whl is
#                                                 mmcv-full 1.7.2 with CUDA ops, built for its Python, torch and GPU
#   tools/gpu_machine.sh check WHEELS [OPTIONS]   there: install from WHEELS alone, then tools/gpu_check.py OPTIONS
# PYTHON=python3 is the Python that has torch; SITE=/tmp/gpu_site is the folder that the wheels are installed to.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
site=${SITE:-/tmp/gpu_site}
# what an image with torch, NumPy, SciPy, OpenCV, matplotlib, safetensors and tensorboard still lacks
packages=(mmdet==2.28.2 mmrotate==0.3.4 e2cnn==0.2.3 pycocotools addict yapf platformdirs terminaltables pyyaml tqdm shapely isal)

fail() { echo "gpu_machine: $*" >&2; exit 1; }
say() { echo "gpu_machine: $*"; }
# cp312 of mmcv_full-1.7.2-cp312-cp312-linux_x86_64.whl
tag() { basename "$1" | cut -d- -f3; }

pack() {
  [ $# = 2 ] || fail "expected: pack WHEELS MMCV.whl"
  [ -f "$2" ] || fail "no such wheel: $2"
  case $(basename "$2") in mmcv_full-1.7.2-cp3*.whl) ;; *) fail "$2 is not a wheel of mmcv-full 1.7.2" ;; esac
  local tag minor platforms=()
  tag=$(tag "$2")
  minor=${tag#cp3}
  for version in 2_28 2_27 2_24 2_17 2_12 2_5; do platforms+=(--platform "manylinux_${version}_x86_64"); done
  mkdir -p "$1"
  say "fetching wheels for Python 3.$minor"
  "$python" -m pip --disable-pip-version-check download --quiet --no-deps --only-binary=:all: --dest "$1" \
    --python-version "3.$minor" --implementation cp --abi "$tag" --abi abi3 --abi none "${platforms[@]}" \
    --platform manylinux2014_x86_64 --platform manylinux1_x86_64 --platform any "${packages[@]}"
  cp -f "$2" "$1/"
  say "$(du -cm "$1"/*.whl | tail -1 | cut -f1) MB of wheels in $1; the checkout weighs $(cd "$here" && git ls-files -z | du -cm --files0-from=- | tail -1 | cut -f1) MB"
}

check() {
  [ $# -ge 1 ] || fail "expected: check WHEELS [OPTIONS of tools/gpu_check.py]"
  local wheels=$1 mmcv
  shift
  mmcv=$(ls "$wheels"/mmcv_full-*.whl 2>/dev/null | head -1) || true
  [ -n "$mmcv" ] || fail "no wheel of mmcv-full in $wheels; tools/gpu_machine.sh pack makes that folder"
  local version
  version=$("$python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])') || fail "$python does not run; set PYTHON"
  [ "$version" = "$(tag "$mmcv")" ] || fail "$(basename "$mmcv") is for $(tag "$mmcv"), $python is $version; set PYTHON"
  "$python" -c 'import torch' || fail "$python has no torch; set PYTHON to the one that has"
  say "installing $(ls "$wheels"/*.whl | wc -l) wheels into $site"
  "$python" -m pip --disable-pip-version-check install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade \
    --target "$site" "$wheels"/*.whl
  export PYTHONPATH="$here:$site${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=
  "$python" -W ignore -c 'import mmcv._ext, mmdet, mmrotate, cv2, fdam_rotate.models' || fail "the stack does not import"
  say "ready: torch $("$python" -c 'import torch; print(torch.__version__, "with", torch.cuda.device_count(), "GPU(s)")')"
  exec "$python" "$here/tools/gpu_check.py" "$@"
}

command=${1:-}
[ $# -eq 0 ] || shift
case $command in
  pack) pack "$@" ;;
  check) check "$@" ;;
  *) fail "expected pack or check, got '${command}'; the first lines of $0 explain both" ;;
esac
