package plugin

// Unquote is unquote.
var Unquote = unquote
