-- For scripts that go from item to item: `number` is the one that `look_at` looked at last. Stands before `item`.
-- Sets of numbers are written as ranges: 1-4,6.
local number
local function ranges_of(numbers)
  local text, first, last = {}, nil, nil
  local function close()
    if first then text[#text + 1] = first == last and string.format('%.0f', first) or string.format('%.0f-%.0f', first, last) end
  end
  for _, each in ipairs(numbers) do
    each = tonumber(each)
    if first and each == last + 1 then
      last = each
    else
      close()
      first, last = each, each
    end
  end
  close()
  return table.concat(text, ',')
end
