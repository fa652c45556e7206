package registry

import (
	"os"
	"path"
	"runtime"
	"time"
)

// leftoverAge is how old a temporary file is at least that nobody can be writing any more.
const leftoverAge = 24 * time.Hour

// claim locks a temporary file for as long as it is open, which tells those who clean up that it is being written. File
// systems without locks have no leftovers removed.
func claim(f *os.File) { _, _ = tryLock(f) }

// sweep removes from a folder the temporary files that killed writers left: those that are ours by name, were last
// written to more than a day before now, and are locked by nobody. now is a file's time of the same file system, whose
// clock need not be this machine's. It is a courtesy: what cannot be removed stays.
func sweep(root *os.Root, dir string, now time.Time, ours func(name string) bool) {
	d, err := root.Open(dir)
	if err != nil {
		return
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return
	}
	for _, n := range names {
		if isTemporary(n) && ours(n) {
			removeLeftover(root, path.Join(dir, n), now)
		}
	}
}

func removeLeftover(root *os.Root, name string, now time.Time) {
	old := func(info os.FileInfo) bool {
		return info.Mode().IsRegular() && now.Sub(info.ModTime()) > leftoverAge
	}
	if info, err := root.Lstat(name); err != nil || !old(info) {
		return
	}
	f, err := root.Open(name)
	if err != nil {
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !old(info) {
		return
	}
	if free, err := tryLock(f); err != nil || !free {
		return
	}
	if runtime.GOOS == "windows" { // removes no file that is open
		f.Close()
	}
	_ = root.Remove(name)
}
