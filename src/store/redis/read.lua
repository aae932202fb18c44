-- KEYS: every place of a name. ARGV: 1 longest record.
local all = {}
for i, key in ipairs(KEYS) do
  all[i] = stored(key)
end
return all
