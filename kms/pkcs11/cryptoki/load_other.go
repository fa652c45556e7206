//go:build !((linux || darwin) && (amd64 || arm64 || (linux && (loong64 || ppc64le || riscv64))))

package cryptoki

// load has nothing to load with: purego does not run here, or a CK_ULONG is not as wide as a register (Windows).
func load(string, *functions) error { return ErrUnsupported }
