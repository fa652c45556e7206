package signer

// Why a signature goes or stays. They stand in plans; none is an error.
const (
	codeSuperseded = "superseded"
	codeNamed      = "named"
	codeGhost      = "ghost"

	codeNewest     = "newest"
	codeNeeded     = "needed"
	codeHidden     = "survivor-hidden"
	codeRejected   = "survivor-rejected"
	codeSurvivor   = "survivor-gone"
	codeUnreadable = "unreadable"
)

// pruneReasons describes them.
func pruneReasons() map[string]string {
	return map[string]string{
		codeSuperseded: "prune: another listed signature is the same one with a chain that lasts longer, and passes wherever this one passes; this one goes.",
		codeNamed:      "prune: --signature names it; it goes, whatever it is.",
		codeGhost:      "prune: it is listed and not there, for which stock notation may refuse the artifact; its entry is taken out of the list where the list is an index of its own.",
		codeNewest:     "prune: no other listed signature supersedes it; it stays.",
		codeNeeded:     "prune: some verifier setting accepts it, now or later, and would refuse the one that supersedes it, or nothing shows that it believes that one's timestamp; it stays.",
		codeHidden:     "prune: the one that supersedes it is written in a form, or stands in the list, where some stock verifiers do not come to it; it stays.",
		codeRejected:   "prune: the policy does not accept the one that supersedes it; it stays.",
		codeSurvivor:   "prune: the one that supersedes it was not there any more, or not the same, just before this one would have gone; it stays.",
		codeUnreadable: "prune: it could not be read, or is no signature manifest that verifiers accept; it stays unless --signature names it.",
	}
}
