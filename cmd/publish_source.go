package cmd

import (
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/registry"
)

// A publication is what is published, and where to.
type publication struct {
	layout      registry.Reference // a layout or an archive
	stdin       bool               // or an archive on standard input
	files       []registry.File    // or what the artifact is made of
	words       []string           // SRC as it was written
	destination registry.Reference
	tags        []string // that the line of a batch names
}

// source is SRC as it was written.
func (p publication) source() string { return strings.Join(p.words, " ") }

// parsePublication reads SRC… DST. What is a file and what a reference is never guessed: what could be both is refused.
func parsePublication(words []string) (publication, error) {
	last := len(words) - 1
	p := publication{words: words[:last]}
	var err error
	if p.destination, err = publishTo(words[last]); err != nil {
		return p, err
	}
	for _, word := range p.words {
		switch {
		case word == "-":
			p.stdin = true
		case isLayout(word):
			if err := notAlsoFile(word); err != nil {
				return p, err
			}
			if p.layout, err = registry.ParseReference(word); err != nil {
				return p, err
			}
		default:
			f, err := publishedFile(word)
			if err != nil {
				return p, err
			}
			p.files = append(p.files, f)
		}
	}
	if len(p.words) > 1 && len(p.files) < len(p.words) {
		return p, usageHint("SRC is one layout, one archive, or files; several artifacts are a --batch",
			"%s: these are no one artifact", p.source())
	}
	return p, checkTitles(p.files)
}

// publishTo parses DST.
func publishTo(word string) (registry.Reference, error) {
	ref, err := registry.ParseReference(word)
	switch {
	case err != nil:
		return ref, err
	case ref.Kind == registry.Archive:
		return ref, usageHint("publish into a layout, then take it along: imprint copy oci:DIR:NAME "+word,
			"publishing to %s: an archive is written once and takes no signature", word)
	case ref.Digest != "":
		return ref, usageHint("name a repository, with or without a tag", "%s: the source says which digest is published", word)
	}
	return ref, nil
}

func isLayout(word string) bool {
	return strings.HasPrefix(word, "oci:") || strings.HasPrefix(word, "oci-archive:")
}

func notAlsoFile(word string) error {
	if _, err := os.Lstat(word); err == nil {
		return usageHint("write ./"+word+" for the file, or the full path of the layout", "%s is a reference, and there is a file of that very name", word)
	}
	return nil
}

// publishedFile reads PATH or PATH:MEDIATYPE.
func publishedFile(word string) (registry.File, error) {
	f, err := splitFile(word)
	if err != nil {
		return f, err
	}
	here := f.Path != ""
	if !here {
		f.Path = word
	}
	if !isPath(word) {
		if _, err := registry.ParseReference(word); err == nil && here {
			return f, usageHint("write ./"+word+" for the file; what is in a registry is copied, not published",
				"%s could be a file or a reference to a registry", word)
		} else if err == nil {
			return f, usageHint("imprint copy "+word+" DST, then imprint sign DST; publish takes what is in no registry yet",
				"%s is in a registry", word)
		}
	}
	if !here {
		return f, noSuchFile(word)
	}
	return f, readableFile(f.Path)
}

// isPath reports whether a word can be nothing but a path.
func isPath(word string) bool {
	return filepath.IsAbs(word) || strings.HasPrefix(word, "./") || strings.HasPrefix(word, "../")
}

// splitFile finds the file in PATH[:MEDIATYPE]; its Path is empty if there is none.
func splitFile(word string) (registry.File, error) {
	whole := isThere(word)
	path, mediaType := cutType(word)
	part := mediaType != "" && isThere(path)
	switch {
	case whole && part:
		return registry.File{}, usageHint("rename one of them, or write ./"+word+":TYPE/SUBTYPE with its media type",
			"%s is a file, and %s is one too, with a media type after it", word, path)
	case whole:
		return registry.File{Path: word}, nil
	case part:
		return registry.File{Path: path, MediaType: mediaType}, nil
	}
	return registry.File{}, nil
}

func isThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// cutType cuts a media type off the end of PATH:MEDIATYPE; it is empty where there is none.
func cutType(word string) (path, mediaType string) {
	i := strings.LastIndexByte(word, ':')
	if i <= 0 || !isMediaType(word[i+1:]) {
		return word, ""
	}
	return word[:i], word[i+1:]
}

// isMediaType: TYPE/SUBTYPE without parameters (RFC 6838, section 4.2).
func isMediaType(s string) bool {
	parsed, params, err := mime.ParseMediaType(s)
	return err == nil && len(params) == 0 && strings.EqualFold(parsed, s) && strings.Count(s, "/") == 1
}

// noSuchFile says what is wrong with a word that is no file.
func noSuchFile(word string) error {
	if i := strings.LastIndexByte(word, ':'); i > 0 && isThere(word[:i]) {
		return usageHint("as "+word[:i]+":application/spdx+json", "%s: %q is no media type", word[:i], word[i+1:])
	}
	path, _ := cutType(word)
	return usageHint("SRC is oci:DIR[:NAME], oci-archive:FILE.tar[:NAME], - for an archive on standard input, or files",
		"reading %s: %w", path, fs.ErrNotExist)
}

// readableFile refuses at once what could not be read later, and what is no file of an artifact.
func readableFile(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return unreadable(path, err)
	}
	if info.IsDir() {
		return usageHint("a layout is written oci:"+path+"; of other folders name the files", "%s is a folder", path)
	}
	if !info.Mode().IsRegular() {
		return usageHint("write what it gives to a file first", "%s is a device or a pipe, no regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return unreadable(path, err)
	}
	return f.Close()
}

// checkTitles refuses files that pulling would write over one another.
func checkTitles(files []registry.File) error {
	titles := map[string]string{}
	for _, f := range files {
		title := filepath.Base(f.Path)
		if before, twice := titles[title]; twice {
			return usageHint("rename one of them: who pulls the artifact gets files of these names",
				"%s and %s have one name", before, f.Path)
		}
		titles[title] = f.Path
	}
	return nil
}

// An attachment is a file that becomes a referrer.
type attachment struct{ path, artifactType string }

// attachments reads --attach FILE:TYPE.
func attachments(words []string) ([]attachment, error) {
	var out []attachment
	seen := map[attachment]bool{}
	for _, word := range words {
		var a attachment
		if a.path, a.artifactType = cutType(word); a.artifactType == "" {
			return nil, usageHint("as --attach sbom.json:application/spdx+json", "--attach %s: its type is missing", word)
		}
		if !isThere(a.path) {
			return nil, unreadable(a.path, fs.ErrNotExist)
		}
		if err := readableFile(a.path); err != nil {
			return nil, err
		}
		if seen[a] {
			return nil, usage("--attach %s stands twice", word)
		}
		seen[a] = true
		out = append(out, a)
	}
	return out, nil
}

// annotations reads --annotation KEY=VALUE.
func annotations(words []string) (map[string]string, error) {
	var out map[string]string
	for _, word := range words {
		key, value, ok := strings.Cut(word, "=")
		if !ok || key == "" {
			return nil, usage("--annotation %q: it is written KEY=VALUE", word)
		}
		if _, twice := out[key]; twice {
			return nil, usage("--annotation %s stands twice", key)
		}
		if out == nil {
			out = map[string]string{}
		}
		out[key] = value
	}
	return out, nil
}

// lastSecond is the last of the year 9999, after which RFC 3339 writes no time.
const lastSecond = 253402300799

// sourceDate is the time of SOURCE_DATE_EPOCH (reproducible-builds.org); zero without it, so that what is made twice is the same.
func sourceDate(value string) (time.Time, error) {
	if value == "" {
		return time.Time{}, nil
	}
	seconds, err := strconv.ParseInt(value, 10, 64)
	if err == nil && (seconds < 0 || seconds > lastSecond || value != strconv.FormatInt(seconds, 10)) {
		err = errors.New("out of range")
	}
	if err != nil {
		return time.Time{}, usageHint("as date +%s writes it", "SOURCE_DATE_EPOCH=%q: it is a number of seconds since 1970", value)
	}
	// Zero seconds are a time too, and no absence of one.
	return time.Unix(seconds, 0).UTC(), nil
}

// publishDone says what an interrupted or failed publish left, for the end of its error.
func publishDone(manifests, signatures int, tags []string, destination string) string {
	var there []string
	if manifests > 0 {
		there = append(there, "what was copied is at "+destination+" by digest")
	}
	if signatures == 1 {
		there = append(there, "1 signature was written")
	} else if signatures > 1 {
		there = append(there, fmt.Sprintf("%d signatures were written", signatures))
	}
	if len(tags) == 0 {
		there = append(there, "no tag has moved")
	} else {
		there = append(there, "of the tags only "+strings.Join(tags, ", ")+" was written")
	}
	return strings.Join(there, ", ") + ": running it again is safe, and goes on from there"
}
